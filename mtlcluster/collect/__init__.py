"""Afterwards: the histories of whatever has finished, as statistics, tables, figures and one page."""
