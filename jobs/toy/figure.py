"""python -m jobs.toy.figure runs/toy [FIGURE.png]: draws the paths of a sweep's runs, and prints where they ended.

The exit status is 1 if a finding of findings.py is not reproduced, or lacks runs.
"""

import sys
from pathlib import Path

from mtlcluster.collect.plain_matplotlib import plain_matplotlib
from mtlcluster.sweep.folder import Sweep
from mtlcluster.terminal import standard_streams

from .findings import read_paths, table, verdicts


def main(folder: str, figure: str = "docs/figures/toy.png") -> int:
    """Draws the figure of the sweep in `folder`, and returns the exit status."""
    found = read_paths(Sweep(Path(folder)))
    if not found:
        print(f"{folder} holds no finished run")
        return 1
    with plain_matplotlib():
        from .drawing import draw

        draw(found, Path(figure))
    print(*table(found), sep="\n")
    print()
    sound = True
    for finding, verdict in verdicts(found):
        print(f"{verdict:>7}  {finding.text}")
        sound &= verdict == "yes"
    print(f"\n{figure}")
    return 0 if sound else 1


if __name__ == "__main__":
    with standard_streams():
        sys.exit(main(*sys.argv[1:]))
