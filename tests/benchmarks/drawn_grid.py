"""A grid of 10,000 drawn runs, beside a plain grid of that size: processor seconds to read and plan it.

Goal: at most 1.5 times the plain grid, without torch. Pairs are run in turn; the ratio is the median over the pairs.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAIRS = 7
METHODS = "[equal, uncertainty, dwa, pcgrad, famo]"
GRIDS = {
    "plain": f"{{method: {METHODS}, optimizer.lr: {{range: [1, 2001]}}}}",
    "drawn": f"{{method: {METHODS}, optimizer.lr: {{loguniform: [1.0e-4, 1.0e-2]}}}}\ntune: {{trials: 2000}}",
}
READ = """
import sys
from pathlib import Path
from mtlcluster.config.grid import read_grid
assert len(read_grid(Path(sys.argv[1]), runs_folder=Path(sys.argv[1]).parent / "runs").runs) == 10_000
assert "torch" not in sys.modules
"""


def processor_seconds(grid: Path) -> float:
    before = os.times()
    subprocess.run([sys.executable, "-c", READ, str(grid)], check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="mtlcluster-grid-") as folder:
        (Path(folder) / "jobs").symlink_to(ROOT / "jobs")
        for name, grid in GRIDS.items():
            (Path(folder) / f"{name}.yaml").write_text(f"name: {name}\njob: toy\ngrid: {grid}\n")
        pairs = [
            [processor_seconds(Path(folder) / f"{name}.yaml") for name in ("plain", "drawn")] for _ in range(PAIRS)
        ]
    plain, drawn = (statistics.median(times) for times in zip(*pairs, strict=True))
    ratios = sorted(drawn / plain for plain, drawn in pairs)
    print(f"10,000 runs: plain {plain:.2f} s, drawn {drawn:.2f} s of the processor")
    print(f"ratio {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}); goal: at most 1.5")


if __name__ == "__main__":
    main()
