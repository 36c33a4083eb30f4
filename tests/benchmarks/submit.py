"""`mtlcluster submit` of a grid of 1,000 runs to a real Slurm, as a whole process, and where its time goes.

Needs root and Slurm's Debian packages, as the tests in tests/slurm do. Goal: at most 2.5 s.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path += [str(ROOT), str(ROOT / "tests")]

from rig.slurm_cluster import SlurmCluster, missing  # noqa: E402

RUNS = 1000
REPEATS = 3
GRID = f"""
name: thousand
job: digits
grid:
  method: [equal, uncertainty, dwa, pcgrad]
  optimizer.lr: [1.0e-4, 1.0e-3]
  seed: {{range: {RUNS // 8}}}
resources: {{partition: closed}}
"""
PARTS = """
import sys, time
from pathlib import Path
begin = last = time.perf_counter()

def timed(owner, name, label):
    function = getattr(owner, name)
    def wrapped(*arguments, **keywords):
        start = time.perf_counter()
        try:
            return function(*arguments, **keywords)
        finally:
            print(f"  {label:30} {time.perf_counter() - start:5.2f} s")
    setattr(owner, name, wrapped)

from mtlcluster.config import grid
from mtlcluster.launch import run_folders, submit
from mtlcluster.launch.code import snapshot
from mtlcluster.launch.executors.slurm import Slurm
import mtlcluster.cli, submitit
print(f"  {'imports':30} {time.perf_counter() - begin:5.2f} s")
timed(grid, "read_grid", "grid read and expanded")
timed(snapshot, "take", "code read")
timed(snapshot, "keep", "code kept")
timed(run_folders, "write_runs", "run folders written")
timed(Slurm, "submit", "submitit and sbatch")
submit.submit(grid.read_grid(Path(sys.argv[1])), Path(sys.argv[2]), "slurm", print)
"""


def main() -> None:
    if reason := missing():
        sys.exit(f"not measured: {reason}")
    with tempfile.TemporaryDirectory(prefix="mtlcluster-submit-") as folder:
        (Path(folder) / "slurm").mkdir()
        cluster = SlurmCluster(Path(folder) / "slurm")
        try:
            measure(Path(folder), {**os.environ, "SLURM_CONF": str(cluster.conf), "PYTHONPATH": str(ROOT)})
        finally:
            cluster.stop()


def measure(folder: Path, environment: dict[str, str]) -> None:
    (folder / "jobs").symlink_to(ROOT / "jobs")
    grid = folder / "thousand.yaml"
    grid.write_text(GRID)
    command = [sys.executable, "-m", "mtlcluster", "submit", str(grid), "--cluster", "slurm", "--runs"]
    times = []
    for repeat in range(REPEATS):
        begin = time.perf_counter()
        subprocess.run([*command, str(folder / str(repeat))], env=environment, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - begin)
    print(f"submit of {RUNS} runs: {min(times):.2f} s at best of {REPEATS}, {max(times):.2f} s at worst (goal 2.5 s)")
    begin = time.perf_counter()
    subprocess.run([*command, str(folder / "0")], env=environment, check=True, stdout=subprocess.DEVNULL)
    print(f"once more, with nothing new: {time.perf_counter() - begin:.2f} s")
    print("where it goes:", flush=True)
    subprocess.run([sys.executable, "-c", PARTS, str(grid), str(folder / "parts")], env=environment, check=True)


if __name__ == "__main__":
    main()
