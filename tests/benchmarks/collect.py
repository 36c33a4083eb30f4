"""Seconds that `collect` takes for a thousand histories, the first time and again with nothing new.

    python tests/benchmarks/collect.py [RUNS]

makes RUNS (1,000) histories of 50 epochs and 4 tasks with series of 1,000 points in a temporary folder, 5 seeds for
each setting, and collects them twice, each time in a process of its own, imports included.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from rig.synthetic_sweep import add_run, history, make_sweep, method  # noqa: E402

METHODS = {
    "equal": {},
    "uncertainty": {"weighting": "uncertainty"},
    "gradnorm": {"weighting": "gradnorm"},
    "pcgrad": {"gradient": "pcgrad"},
    "dsg+pcgrad": {"schedule": "dsg", "gradient": "pcgrad"},
}
SEEDS = 5
COLLECT = """
import sys
from pathlib import Path
from mtlcluster.collect.make_report import make_report
from mtlcluster.sweep.folder import Sweep
print(make_report(Sweep(Path(sys.argv[1])), print))
"""


def make(folder: Path, runs: int) -> None:
    sweep = make_sweep(folder)
    for number in range(runs):
        setting, seed = divmod(number, SEEDS)
        label, slots = list(METHODS.items())[setting % len(METHODS)]
        varied = {"optimizer.lr": 1e-4 * (1 + setting // len(METHODS))}
        made = history(method(**slots), seed, label=label, varied=varied, epochs=50, points=1000, quality=setting % 7)
        add_run(sweep, f"{label}-{number:04d}", made)


def main(runs: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder) / "benchmark", runs)
        size = sum(path.stat().st_size for path in Path(folder).rglob("history.pkl")) / 2**20
        print(f"{runs} histories, {size:.0f} MiB")
        for which in ("first", "second"):
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", COLLECT, f"{folder}/benchmark"], check=True, cwd=ROOT)
            print(f"{which} collect: {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
