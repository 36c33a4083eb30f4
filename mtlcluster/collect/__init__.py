"""Makes a report of the runs that have finished: statistics, tables, figures and one page."""
