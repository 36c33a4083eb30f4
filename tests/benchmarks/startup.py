"""How long `mtlcluster --help` and `status` take as whole processes, and `status` of 10,000 finished runs.

    python tests/benchmarks/startup.py

Prints medians of 5, in seconds: --help and 20 runs should take at most 0.5, 10,000 runs at most 2.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from rig.handmade import add_runs, at_epoch, local_job, new_sweep  # noqa: E402


def seconds(*arguments: str) -> float:
    command = [sys.executable, "-m", "mtlcluster", *arguments]
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(ROOT)})
    return time.perf_counter() - began


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        few, many = Path(folder, "few"), Path(folder, "many")
        states = ["done", "running", "failed", "queued"] * 5
        job = local_job(os.getpid())
        add_runs(new_sweep(few), job, {f"run-{i}": at_epoch(5, state) for i, state in enumerate(states)})
        add_runs(new_sweep(many), job, {f"run-{i}": at_epoch(20, "done") for i in range(10_000)})
        for what, arguments in {
            "--help": ["--help"],
            "status, 20 runs": ["status", "--runs", str(few)],
            "status, 10,000 finished runs": ["status", "--runs", str(many)],
            "status --json, 10,000 finished runs": ["status", "--json", "--runs", str(many)],
        }.items():
            times = [seconds(*arguments) for _ in range(5)]
            print(f"{what:38} {statistics.median(times):.2f} s  (fastest {min(times):.2f})")


if __name__ == "__main__":
    main()
