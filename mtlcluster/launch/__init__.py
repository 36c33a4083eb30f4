"""From a grid to jobs, and the commands for the runs afterwards.

submit, dry_run, preflight                `submit`, its --dry-run and its --check
retry, cancel, logs                       the commands with these names
run_status, status_table, live_status     the states of runs; their text; redrawing it
select_runs, run_module                   from names to runs; `evaluate` and `replay` with a run's own code
choose_cluster, packing, hand_over        where runs go; which of them share a job; giving them jobs
sweep_file, run_folders, job_of_run       sweep.yaml; the runs' folders; which job a run has
choose, confirm, roles                    choosing settings; confirming runs that need a job; what runs are for
executors/                                where jobs are started: this machine, Slurm
code/                                     code/<hash>/: the code that runs are trained with
"""
