"""Reading a grid of 10,000 drawn runs, against a plain grid of that size, each in processes of their own.

Prints medians of 5 in seconds, and their ratio. Goal: at most 1.5, without torch. The import of scipy, which a grid of
any size pays once, is printed beside it.
"""

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
REPEATS = 5
HEAD = f"name: drawn\njob: {ROOT}/jobs/digits.py:build\n"
PLAIN = f"""{HEAD}
grid:
  method: [equal, pcgrad, gradnorm, dwa, famo]
  optimizer.lr: {{logspace: [1.0e-4, 1.0e-2, 100]}}
  seed: {{range: 20}}
"""
DRAWN = f"""{HEAD}
grid:
  method: [equal, pcgrad, {{weighting: {{name: gradnorm, alpha: {{uniform: [0.1, 3]}}}}}}, dwa, famo]
  optimizer.lr: {{loguniform: [1.0e-4, 1.0e-2]}}
tune: {{trials: 2000}}
"""
READ = """
import sys, time
from pathlib import Path
import mtlcluster.config.grid as grid
begin = time.perf_counter()
if "drawn" in sys.argv[1]:
    from scipy.stats import qmc
imported = time.perf_counter()
assert len(grid.read_grid(Path(sys.argv[1])).runs) == 10_000
print(imported - begin, time.perf_counter() - imported)
assert "torch" not in sys.modules
"""


def measure(grid: Path) -> list[float]:
    """The time of the import of scipy, and that of reading the grid [s]."""
    printed = subprocess.run([sys.executable, "-c", READ, grid], check=True, capture_output=True, text=True).stdout
    return [float(number) for number in printed.split()]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        plain, drawn = Path(folder, "plain.yaml"), Path(folder, "drawn.yaml")
        plain.write_text(PLAIN)
        drawn.write_text(DRAWN)
        times = [(measure(plain), measure(drawn)) for _ in range(REPEATS)]
    of_plain = statistics.median(read for (_, read), _ in times)
    of_drawn = statistics.median(read for _, (_, read) in times)
    scipy = statistics.median(imported for _, (imported, _) in times)
    print(f"plain {of_plain:.2f}, drawn {of_drawn:.2f}: {of_drawn / of_plain:.2f}")
    print(f"with the import of scipy ({scipy:.2f}): {(of_drawn + scipy) / of_plain:.2f}")
