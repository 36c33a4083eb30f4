"""The process that trains one run, started by the worker:
`python -m mtlcluster._entry child RUN_FOLDER REPORT_FD [HELD_FD …]`.

Standard output and error go to the run's log.txt. The worker writes to standard input: a line `stop` asks to save a
checkpoint at the next step boundary and to end. The end of input, when the worker is dead, asks the same; after
ORPHANED seconds the process is then killed. REPORT_FD is an open pipe to the worker, one JSON object a line:

    {"event": "started", "epoch": 3, "epochs": 20, "step": 90, "steps": 600, "device": "cpu", "notes": ["…"],
     "best": {…} or null, "last_validation": {…} or null}                    of a run that goes on: from its checkpoint
    {"event": "progress", "step": 95, "seconds_left": 12.0, "latest": {series name: value}}         at most one a second
    {"event": "epoch", "epoch": 4, "step": 120, "seconds_left": 11.0, "latest": {…}, "best": {…} or null,
     "last_validation": {"epoch": 4, "step": 120} or null,      finished epochs and steps then, 0 before the first one;
                                                                                       null if the training is over
     "gradient_layer": "trunk.2" or null}                                   where GradNorm and at: last_layer look
    {"event": "saving"}                                             a checkpoint is being written, which may take long
    {"event": "saved", "step": 120}                                                                 a checkpoint
    {"event": "done" | "stopped", "epoch": 4, "step": 120}
    {"event": "failed", "error": "one line"}

If several processes train the run, torch's environment variables (RANK, WORLD_SIZE, …) say which one this is. All but
rank 0 have -1 for REPORT_FD and do not listen to standard input; they stop when rank 0 does.

HELD_FD are open files with locks: the run and its slots are taken until this process is gone.

The exit status is one of processes/exit_status.py; after a failure the traceback is in the log. The worker starts this
process so that it ignores USR2 and TERM from its first instruction on: only the worker asks it to stop.
"""

import signal

for number in (signal.SIGUSR2, signal.SIGTERM, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)

import contextlib  # noqa: E402
import faulthandler  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
import threading  # noqa: E402
import traceback  # noqa: E402
from collections.abc import Callable  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import TYPE_CHECKING, Any  # noqa: E402

from mtlcluster.processes.exit_status import DONE, FAILED, STOPPED  # noqa: E402
from mtlcluster.sweep.series import TOTAL_LOSS, VALIDATION_MEAN_LOSS  # noqa: E402
from mtlcluster.training.callbacks import Callbacks, StopRequested  # noqa: E402

if TYPE_CHECKING:
    from mtlcluster.problem import Problem

ORPHANED = 600  # seconds to save and end after the worker has died


class WorkerCallbacks(Callbacks):
    """Reports to the worker, and stops when the worker asks. Ranks other than 0 do neither."""

    def __init__(self, report_fd: int) -> None:
        """
        Args:
            report_fd: The pipe to the worker; -1 on ranks other than 0.
        """
        self.is_first = report_fd >= 0
        self.reports = os.fdopen(report_fd, "w", buffering=1) if self.is_first else None
        self.stop = threading.Event()

    def listen(self) -> None:
        """Starts to listen to the worker on standard input. From here on a job's input() ends at once."""
        threading.Thread(target=_listen, args=(self.stop,), daemon=True).start()
        sys.stdin = open(os.devnull)  # noqa: SIM115 - open to the end of the process

    def should_stop(self) -> bool:
        return self.stop.is_set()

    def report(self, event: str, **values: Any) -> None:
        if self.reports is None:
            return
        with contextlib.suppress(BrokenPipeError):  # the worker is dead: the end of standard input tells that, too
            self.reports.write(json.dumps({"event": event, **values}) + "\n")
        if event == "epoch":
            logged = {name: values["latest"].get(name) for name in (TOTAL_LOSS, VALIDATION_MEAN_LOSS)}
            latest = [f"{name} {value:.4g}" for name, value in logged.items() if value is not None]
            if (layer := values["gradient_layer"]) and values["epoch"] == 1:
                latest.append(f"the tasks' gradients are taken at {layer}")
            with contextlib.suppress(OSError):  # a full disk: if it matters, the next checkpoint will fail
                print(f"epoch {values['epoch']}, step {values['step']}: {', '.join(latest)}", flush=True)


def main(folder: Path, report_fd: int, held: list[int]) -> int:
    """Trains the run in `folder`, and returns the exit status."""
    callbacks, build = WorkerCallbacks(report_fd), None
    _keep_from_forks([report_fd, *held] if callbacks.is_first else held)
    if callbacks.is_first:
        callbacks.listen()
    try:
        from mtlcluster.training.train import load_run, train

        config, build = load_run(folder)
        train(build, config, folder, callbacks)
    except StopRequested as stopped:
        if callbacks.is_first:
            print(stopped, flush=True)
        return STOPPED
    except (Exception, SystemExit) as error:  # the user's code may raise SystemExit
        return _fail(callbacks, error, folder, build)
    return DONE


def _listen(stop: threading.Event) -> None:
    """Waits for the worker's lines, and for the end of standard input."""
    # Not through sys.stdin: reading from it holds its lock. A forked data loader closes sys.stdin first, and would wait
    # for that lock forever.
    while os.read(0, 64):
        stop.set()
    stop.set()
    # No worker is left to kill this process if it hangs. This prints where it hangs, and needs no lock of Python.
    faulthandler.dump_traceback_later(ORPHANED, exit=True)


def _keep_from_forks(files: list[int]) -> None:
    """Closes `files` in every process that this one forks, such as a data loader. Otherwise a loader that hangs would
    hold the run and its slots after all other processes are gone.
    """

    def close() -> None:
        while files:  # empties the list: in a fork of the fork these numbers may be other files
            os.close(files.pop())

    os.register_at_fork(after_in_child=close)


def _fail(callbacks: Callbacks, error: BaseException, folder: Path, build: Callable[[], "Problem"] | None) -> int:
    """Reports and prints what went wrong, and returns the exit status."""
    from mtlcluster.training.error_place import sentence

    words = sentence(error, Path.cwd(), build)
    if getattr(error, "kept", False):  # a step that is not finite
        words += f". To see that step again: mtlcluster replay {folder.parent.name}/{folder.name}"
    callbacks.report("failed", error=words)
    with contextlib.suppress(OSError):  # a full disk: the report has been sent
        traceback.print_exc()
        print(words, file=sys.stderr)
    return FAILED


if __name__ == "__main__":
    from mtlcluster.training import loader_sockets

    status = main(Path(sys.argv[1]), int(sys.argv[2]), [int(file) for file in sys.argv[3:]])
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
        loader_sockets.remove_folder()
    os._exit(status)  # does not wait for the thread that listens, nor for torch's teardown
