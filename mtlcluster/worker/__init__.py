"""The worker: the process that trains the runs of one job. It imports nothing heavy.

slurm, local                    the worker's process in a Slurm job, and on this machine
worker                          starts runs as there is room, and handles the signals
choosing                        confirming runs whose setting is not chosen yet
attempt, status_file            one attempt at a run, and how it ended; writing status.json
ranks, rank_process             the training processes of a run; starting and ending one
rank_keeper, rendezvous         the other nodes of a job: keeping ranks there; how the nodes find each other
slots                           the CPUs and GPUs that runs get
"""
