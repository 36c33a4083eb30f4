"""The worker: the process that trains the runs of one job. It imports nothing heavy."""
