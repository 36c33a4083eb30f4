"""The worker: looks after the runs of one job, each in a training process of its own."""
