"""The figures of the verdict: forest plot, trade-offs between tasks, expected best of fewer trials."""

from collections.abc import Callable, Mapping
from pathlib import Path

from matplotlib.figure import Figure

from mtlcluster.collect import style
from mtlcluster.collect.colours import Look
from mtlcluster.collect.figures import Drawn
from mtlcluster.collect.fonts import families
from mtlcluster.collect.verdict.contest import Contest
from mtlcluster.collect.verdict.expected_best_plot import draw_expected_best
from mtlcluster.collect.verdict.forest_plot import draw_forest
from mtlcluster.collect.verdict.front_plot import draw_front
from mtlcluster.collect.verdict.result import Verdict

Draw = Callable[[Contest, Verdict, Mapping[str, Look]], tuple[Figure, str] | None]
FIGURES: dict[str, tuple[str, Draw]] = {
    "forest": ("Differences from the reference", lambda contest, verdict, looks: draw_forest(verdict)),
    "front": ("Trade-offs between tasks", lambda contest, verdict, looks: draw_front(verdict, looks)),
    "expected_best": (
        "Expected best of fewer trials",
        lambda contest, verdict, looks: draw_expected_best(contest.rows, looks),
    ),
}


def draw_verdict(
    contest: Contest, verdict: Verdict, looks: Mapping[str, Look], folder: Path, advance: Callable[[], object]
) -> list[Drawn]:
    """Writes PNG and PDF of every figure that there is into `folder`.

    Args:
        contest: What is compared.
        verdict: The verdict.
        looks: By method.
        folder: Where the files go.
        advance: Called after each of FIGURES.
    """
    names = [*(method.name for method in verdict.methods), *(task.name for task in contest.tasks)]
    fonts, _ = families("".join(names))
    drawn = []
    for name, (title, draw) in FIGURES.items():
        with style.use_style(fonts):
            if made := draw(contest, verdict, looks):
                figure, caption = made
                style.save(figure, folder / name)
                drawn.append(Drawn(name, title, caption, tuple(figure.get_size_inches())))
        advance()
    return drawn
