"""Published findings about the toy problem, and whether the runs of a sweep reproduce them.

The findings are those of Navon et al. (ICML 2022, figure 1 and appendix), with the scales (0.1, 1) of the losses.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtlcluster.sweep.folder import Sweep
from mtlcluster.sweep.history import read_history
from mtlcluster.sweep.series import VALIDATION, evaluated

SCALE = (0.1, 1.0)
STARTS = {(-8.5, 7.5), (0.0, 0.0), (9.0, 9.0), (-7.5, -0.5), (9.0, -1.0)}
FRONT_Y, FRONT_X = -8.355, (-7.0, 7.0)  # the Pareto front
NEAR = 0.1  # the largest distance in y from the front at which a point counts as on it
STUCK = (9.0, 9.0)  # the start from which some methods never reach the front


@dataclass(frozen=True, eq=False)
class Path:
    """The path of one run.

    Attributes:
        method: The run's method.
        start: The first point, (x, y).
        steps: The number of steps done at each point [K]; the first is 0.
        points: The points of the run after these steps, [K, 2].
    """

    method: str
    start: tuple[float, float]
    steps: NDArray[np.int64]
    points: NDArray[np.float64]

    @property
    def end(self) -> tuple[float, float]:
        x, y = self.points[-1]
        return float(x), float(y)

    @property
    def arrived(self) -> bool:
        """True if the path ends on the front."""
        return bool(on_front(self.points)[-1])

    @property
    def steps_to_front(self) -> int:
        """The number of steps to reach the front and stay there; all steps if the run does not end there."""
        return int(self.steps[np.flatnonzero(~on_front(self.points))[-1] + 1]) if self.arrived else int(self.steps[-1])


def on_front(points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Booleans [K]: true where a point of `points` [K, 2] is on the Pareto front."""
    x, y = points.T
    near: NDArray[np.bool_] = (abs(y - FRONT_Y) < NEAR) & (x >= FRONT_X[0]) & (x <= FRONT_X[1])
    return near


Paths = dict[str, list[Path]]  # by method


@dataclass(frozen=True)
class Finding:
    """A published finding.

    Attributes:
        text: The finding in a sentence.
        methods: The methods that it is about.
        holds: True if it holds for these paths.
    """

    text: str
    methods: tuple[str, ...]
    holds: Callable[[Paths], bool]


FINDINGS = (
    Finding(
        "the plain sum reaches the front from every start but (9, 9)",
        ("equal",),
        lambda of: missing(of["equal"]) == [STUCK],
    ),
    Finding(
        "wherever it does, it ends at the same point, which gives up task 1: x < −5",
        ("equal",),
        lambda of: spread(of["equal"]) < 0.1 and max(ends(of["equal"]), default=0) < -5,
    ),
    Finding(
        "PCGrad reaches the front from every start but (9, 9)",
        ("pcgrad",),
        lambda of: missing(of["pcgrad"]) == [STUCK],
    ),
    Finding(
        "MGDA, IMTL-G and Nash-MTL reach the front from every start",
        ("mgda", "imtl_g", "nash_mtl"),
        lambda of: not (missing(of["mgda"]) or missing(of["imtl_g"]) or missing(of["nash_mtl"])),
    ),
    Finding(
        "Nash-MTL is the fastest of these, over all starts together",
        ("mgda", "imtl_g", "nash_mtl"),
        lambda of: steps(of["nash_mtl"]) < min(steps(of["mgda"]), steps(of["imtl_g"])),
    ),
    Finding(
        "Nash-MTL's ends are spread over the front: over 2 of its 14 units at least",
        ("nash_mtl",),
        lambda of: spread(of["nash_mtl"]) >= 2,
    ),
)


def missing(paths: list[Path]) -> list[tuple[float, float]]:
    """The starts from which the front was not reached."""
    return [path.start for path in paths if not path.arrived]


def spread(paths: list[Path]) -> float:
    """The distance in x between the outermost ends on the front."""
    return max(ends(paths), default=0) - min(ends(paths), default=0)


def ends(paths: list[Path]) -> list[float]:
    """The x of the ends on the front."""
    return [path.end[0] for path in paths if path.arrived]


def steps(paths: list[Path]) -> int:
    """The steps to the front, of all paths together."""
    return sum(path.steps_to_front for path in paths)


def read_paths(sweep: Sweep) -> Paths:
    """Reads the finished runs with the scales SCALE.

    Returns:
        The paths by method, in the order of their starts.
    """
    found: Paths = {}
    for run in sweep.runs():
        if not run.history.exists():
            continue
        history = read_history(run.history)
        info, series = history["info"], history["series"]
        config = info["config"]
        if not info["finished"] or tuple(config["model"]["scale"]) != SCALE:
            continue
        x, y = (series[evaluated(VALIDATION, axis, "task1")] for axis in ("x", "y"))
        start = (float(config["model"]["start"][0]), float(config["model"]["start"][1]))
        points = np.stack([x["value"], y["value"]], axis=1)
        path = Path(
            method=info["method"],
            start=start,
            steps=np.append(0, x["epoch"] * config["data"]["per_epoch"]),
            points=np.vstack([start, points]),
        )
        found.setdefault(path.method, []).append(path)
    return {method: sorted(paths, key=lambda path: path.start) for method, paths in sorted(found.items())}


def table(paths: Paths) -> Iterator[str]:
    """Yields the lines of a Markdown table: where each run ended, and how many steps it took to the front."""
    starts = sorted({path.start for of_method in paths.values() for path in of_method})
    yield "| method | " + " | ".join(f"from ({x:g}, {y:g})" for x, y in starts) + " | on the front | steps together |"
    yield "|---|" + "---|" * len(starts) + "--:|--:|"
    for method, of_method in paths.items():
        by_start = {path.start: path for path in of_method}
        cells = [_cell(by_start[start]) if start in by_start else "" for start in starts]
        count = f"{sum(path.arrived for path in of_method)} of {len(of_method)}"
        total = f"{steps(of_method):,}" if not missing(of_method) else ""
        yield f"| {method} | " + " | ".join(cells) + f" | {count} | {total} |"


def _cell(path: Path) -> str:
    if path.arrived:
        return f"x = {path.end[0]:.2f} after {path.steps_to_front:,}"
    return f"ends at ({path.end[0]:.2f}, {path.end[1]:.2f}), {path.steps[-1]:,} steps"


def verdicts(paths: Paths) -> Iterator[tuple[Finding, str]]:
    """Yields for each finding "yes", "NO", or "not run" if one of its methods lacks runs."""
    for finding in FINDINGS:
        if any({path.start for path in paths.get(method, [])} < STARTS for method in finding.methods):
            yield finding, "not run"
        else:
            yield finding, "yes" if finding.holds(paths) else "NO"
