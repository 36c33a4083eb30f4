"""Losses and gradients that are not finite: the check of every step, and the search for the cause."""
