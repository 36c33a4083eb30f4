"""The entry points of processes that load a job: training, checking, evaluating, replaying."""
