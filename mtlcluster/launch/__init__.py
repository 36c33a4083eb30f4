"""From a grid to jobs, and what the user's side does with the runs afterwards: status, logs, cancel, retry."""
