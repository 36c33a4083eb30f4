"""The sweep folder. The user's side and the job's side share nothing else. Nothing here imports torch or pydantic.

runs/<sweep>/                 one per grid file (its `name`)
  sweep.yaml                  the grid as submitted, resolved
  code/<hash>/                the code as it was at a submission
  submissions.jsonl           one line before and one after each submission
  clusters/<name>.json        the last answer of a remote cluster about its runs of this sweep
  submissions/<id>/           batch script and output of its jobs
  <run>/                      one per point of the grid
    config.yaml               all that the run needs; written once
    status.json               how far the run is; written by the worker alone
    cancel                    written by the user's side: the run should stop
    history.pkl               what the run computed: plain containers and numpy arrays
    predictions.npz           what its best model gives for the test data, see predictions.py
    checkpoints/
    log.txt
  report/                     written by collect
"""
