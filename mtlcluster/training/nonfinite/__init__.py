"""Losses and gradients that are not finite: the check of every step, and who is to blame."""
