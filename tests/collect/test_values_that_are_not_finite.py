"""A metric that is infinite or NaN is shown as such. Ranks and other columns are as without it."""

import csv
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rig.synthetic_sweep import add_run, history, make_sweep, method

from mtlcluster.collect import figures
from mtlcluster.collect.make_report import make_report
from mtlcluster.sweep.folder import Sweep

TASKS = [
    {"name": "text", "kind": "regression", "metrics": {"perplexity": "min", "mae": "min"}},
    {"name": "rare", "kind": "regression", "metrics": {"auc": "max"}},
]
LABELS = {f"single-{name}": {"schedule": {"name": "single", "task": name}} for name in ("text", "rare")}
LABELS |= {"equal": {}, "pcgrad": {"gradient": "pcgrad"}}


def sweep_of(folder: Path, values: dict[str, dict[str, float]], labels: Any = LABELS, drawn: Any = ()) -> Sweep:
    """Makes a sweep and its report.

    Args:
        folder: of the sweep.
        values: by `label` or `label-seed`, and series, the value of every epoch and of the test.
        labels: the methods.
        drawn: the figures.
    """
    sweep = make_sweep(folder)
    for label, slots in labels.items():
        for seed in range(2):
            made = history(method(**slots), seed, label=label, tasks=TASKS, epochs=3, points=10)
            for name, value in {**values.get(label, {}), **values.get(f"{label}-{seed}", {})}.items():
                for part in ("validation", "test"):
                    made["series"][f"{part}/{name}"]["value"][:] = value
            if label.startswith("single"):
                made["info"]["method"] = f"single(task={label[7:]})"
            add_run(sweep, f"{label}-{seed}", made)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "FIGURES", {name: name for name in drawn})
        make_report(sweep, print)
    return sweep


def rows(sweep: Sweep, table: str) -> dict[str, dict[str, str]]:
    with open(sweep.report / "tables" / f"{table}.csv", newline="", encoding="utf-8") as file:
        return {next(iter(row.values())): row for row in csv.DictReader(file)}


@pytest.mark.parametrize(("value", "shown"), [(math.inf, "∞"), (-math.inf, "-∞"), (math.nan, "NaN")])
def test_a_metric_that_is_never_finite_is_there_as_what_it_is(tmp_path: Path, value: float, shown: str) -> None:
    labels = {key: LABELS[key] for key in ("equal", "pcgrad")}
    broken = {label: {"text/perplexity": value} for label in labels}
    sweep = sweep_of(tmp_path / "s", broken, labels)
    markdown = (sweep.report / "tables" / "results.md").read_text("utf-8").splitlines()
    place = markdown[0].split("|").index(" text perplexity ↓ ")
    assert [line.split("|")[place].strip() for line in markdown[2:]] == [shown, shown]
    page = (sweep.report / "index.html").read_text("utf-8")
    assert page.count(f"<td>{shown.replace('-', '−')}</td>") == 6, "in the results and in both tables of all values"
    for row in rows(sweep, "results").values():
        assert np.array_equal(float(row["test/text/perplexity mean"]), value, equal_nan=True)
        assert row["test/text/perplexity n"] == "0"
        assert row["mean_rank"], "the other metrics rank"
    [cell] = {row["test/text/perplexity"] for row in rows(sweep, "runs").values()}
    assert np.array_equal(float(cell), value, equal_nan=True)


def test_one_setting_or_one_seed_that_is_not_finite_leaves_the_others(tmp_path: Path) -> None:
    broken = {"pcgrad": {"text/perplexity": math.inf}, "equal-0": {"text/mae": math.nan}}
    sweep = sweep_of(tmp_path / "s", broken)
    found = rows(sweep, "results")
    assert found["pcgrad"]["test/text/perplexity mean"] == "inf"
    assert math.isfinite(float(found["equal"]["test/text/perplexity mean"]))
    assert (found["equal"]["test/text/mae n"], found["pcgrad"]["test/text/mae n"]) == ("1", "2")
    assert found["equal"]["delta_m_percent n"] == "1", "of the seed that has all"
    assert "(n = 1)" in (sweep.report / "tables" / "results.md").read_text("utf-8")


def test_without_any_finite_value_there_is_a_report_that_says_so(tmp_path: Path) -> None:
    everything = {"equal": {"text/perplexity": math.inf, "text/mae": math.inf, "rare/auc": math.nan}}
    everything["equal"] |= {"text/loss": math.nan, "rare/loss": math.inf, "mean_loss": math.nan}
    drawn = ("results", "metrics", "validation_losses")
    sweep = sweep_of(tmp_path / "s", everything, {"equal": {}}, drawn)
    assert set(re.findall(r"∞|NaN", (sweep.report / "tables" / "validation.md").read_text("utf-8"))) == {"∞", "NaN"}
    for name in drawn:
        assert (sweep.report / "figures" / f"{name}.png").is_file()
