"""The sweep folder: all that the user's side and the job's side share. Nothing here imports torch or pydantic.

runs/<sweep>/                 one per grid file (its `name`)
  sweep.yaml                  the grid as submitted, resolved
  code/<hash>/                the code as it was at a submission
  submissions.jsonl           one line before and one after each submission
  clusters/<name>.json        what a remote cluster last said of its runs of this sweep
  submissions/<id>/           batch script and output of its jobs
  <run>/                      one per point of the grid
    config.yaml               everything that the run needs; written once
    status.json               written by the worker alone
    cancel                    written by the user's side: this run is to stop
    history.pkl               plain containers and numpy arrays
    checkpoints/
    log.txt
  report/                     what collect wrote
"""
