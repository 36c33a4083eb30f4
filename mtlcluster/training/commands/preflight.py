"""Makes one training step of each given configuration, before anything is submitted.

Started as `python -m mtlcluster._entry preflight ROOT CONFIG.yaml …`. The working directory is a copy of
what the runs will have of the project in ROOT; the `job` of a configuration is relative to it.

Prints a line for each configuration, `ok` or `failed: one line`. The exit status is 1 if one failed.
"""

import os
import sys
import tempfile
from pathlib import Path

from mtlcluster.config.job_file import import_path
from mtlcluster.config.run import RunConfig, read_run_config
from mtlcluster.training.callbacks import Callbacks
from mtlcluster.training.error_place import sentence
from mtlcluster.training.train import load_build, prepare


def main(root: Path, paths: list[Path]) -> int:
    """Tries the configurations in `paths`, and returns the exit status."""
    failed = False
    for path in paths:
        build = None
        try:
            config = read_run_config(path)
            _leave_out(root, config)
            build = load_build(config.job, Path.cwd(), config)
            with tempfile.TemporaryDirectory() as folder:
                prepare(build, config, Path(folder), Callbacks()).try_one_step()
            print("ok", flush=True)
        except (Exception, SystemExit) as error:  # the user's code may raise anything
            failed = True
            print(f"failed: {sentence(error, Path.cwd(), build)}", flush=True)
    return int(failed)


def _leave_out(root: Path, config: RunConfig) -> None:
    """Removes the project from Python's path. It is there if it is installed in editable mode or in PYTHONPATH, which
    may differ on the machine where the run will train.
    """
    left_out = {os.path.realpath(place) for place in import_path(root, Path(config.job.partition(":")[0]))}
    sys.path[:] = [place for place in sys.path if os.path.realpath(place) not in left_out]


if __name__ == "__main__":
    project, *configurations = map(Path, sys.argv[1:])
    sys.exit(main(project, configurations))
