"""With many tasks, figures show the first ones and say so: the layout of hundreds takes minutes. Tables have all."""

import csv
import re
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from rig.synthetic_sweep import add_run, history, make_sweep, method

from mtlcluster.collect import style
from mtlcluster.collect.make_report import make_report

MANY = 60
PANELS_SHOWN = 24
METRICS = {"mae": "min", "r2": "max"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Figure]]:
    """The report of many tasks with two metrics each, and its figures, which are not written: that takes long."""
    sweep = make_sweep(tmp_path_factory.mktemp("runs") / "many")
    tasks = [{"name": f"assay {i}", "kind": "regression", "metrics": METRICS} for i in range(MANY)]
    slots = {"equal": {}, "uncertainty": {"weighting": "uncertainty"}, "dsg": {"schedule": "dsg"}}
    slots["pcgrad"] = {"gradient": "pcgrad"}
    for label, slot in slots.items():
        entry = history(method(**slot), 0, label=label, tasks=tasks, epochs=2, points=10)
        entry["series"] |= {f"share/{t['name']}": entry["series"][f"active/{t['name']}"] for t in tasks}
        add_run(sweep, label, entry)
    figures: list[Figure] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(style, "save", lambda figure, stem: figures.append(figure))
        make_report(sweep, print)
    return sweep.report, figures


def test_no_figure_has_more_panels_than_a_page_holds(made: tuple[Path, list[Figure]]) -> None:
    _, figures = made
    assert len(figures) == 10, "every figure was drawn"
    assert max(len(figure.axes) for figure in figures) == PANELS_SHOWN
    assert max(figure.get_figheight() for figure in figures) < 25


def test_captions_say_what_is_left_out_and_tables_have_it(made: tuple[Path, list[Figure]]) -> None:
    folder, _ = made
    page = (folder / "index.html").read_text("utf-8")
    captions = dict(re.findall(r'<figure id="figure-(\w+)">.*?<figcaption>(.*?)</figcaption>', page, re.DOTALL))
    there = {"metrics": 2 * MANY, "training_losses": MANY, "validation_losses": MANY + 1, "weights": MANY}
    there |= {"shares": MANY, "cosines": MANY * (MANY - 1) // 2, "results": 2 * MANY, "schedule": MANY}
    for name, number in there.items():
        assert f"The first {PANELS_SHOWN} of {number} " in captions[name], name
    with open(folder / "tables" / "results.csv", newline="", encoding="utf-8") as file:
        heads = next(csv.reader(file))
    assert sum(head.endswith(" mean") for head in heads) == len(METRICS) * MANY
