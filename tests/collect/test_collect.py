"""`mtlcluster collect`: the report holds all runs that have finished, and its numbers are right."""

import csv
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from rig.synthetic_sweep import add_run, history, make_sweep, method

from mtlcluster.cli import app
from mtlcluster.collect.make_report import make_report
from mtlcluster.collect.read_histories import Curve, read_histories
from mtlcluster.collect.run_list import list_runs
from mtlcluster.collect.settings import group_runs
from mtlcluster.collect.statistics import band, mean_ranks
from mtlcluster.errors import UserError
from mtlcluster.sweep.folder import Sweep
from mtlcluster.sweep.history import write_history
from mtlcluster.sweep.series import CELLS

ROOT = Path(__file__).parents[2]
TWO_TASKS = [
    {"name": "left", "kind": "classification", "metrics": {"accuracy": "max"}},
    {"name": "ink", "kind": "regression", "metrics": {"mae": "min"}},
]
FIGURES = {"results", "metrics", "validation_losses", "training_losses", "total_loss", "weights", "schedule"}
COLLECT = """
import json, os, sys
from pathlib import Path
from mtlcluster.collect import figures, make_report
from mtlcluster.sweep.folder import Sweep
if sys.argv[2:] == ["die"]:
    figures.Figures.weights = lambda self: os._exit(9)
lines = []
page = make_report.make_report(Sweep(Path(sys.argv[1])), lines.append)
print(json.dumps({"page": str(page), "lines": lines, "torch": "torch" in sys.modules}))
"""


def small(label: str, seed: int, **options):
    slots = {"pcgrad": {"gradient": "pcgrad"}, "equal": {}}.get(label)
    if slots is None:
        slots = {"schedule": {"name": "single", "task": label}}
        label = f"single(task={label})"
    return history(method(**slots), seed, label=label, tasks=TWO_TASKS, epochs=6, points=60, **options)


def collect_elsewhere(sweep: Sweep, *arguments: str) -> subprocess.CompletedProcess[str]:
    call = [sys.executable, "-c", COLLECT, str(sweep.folder), *arguments]
    return subprocess.run(call, cwd=ROOT, capture_output=True, text=True)


def with_test_values(made: dict, values: dict[str, float]) -> dict:
    made["series"] = {k: s for k, s in made["series"].items() if not k.startswith("test/")}
    for key, value in values.items():
        made["series"][f"test/{key}"] = {"epoch": np.array([3]), "value": np.array([value])}
    return made


def rows_of(sweep: Sweep, table: str) -> dict[str, dict[str, str]]:
    with open(sweep.report / "tables" / f"{table}.csv", newline="") as file:
        return {next(iter(row.values())): row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Two methods, a failed run, a running one, one that was never started, a torn history and a malicious one."""
    sweep = make_sweep(tmp_path_factory.mktemp("runs") / "mixed")
    for label in ("equal", "pcgrad"):
        for seed in range(2):
            add_run(sweep, f"{label}-seed={seed}", small(label, seed))
    add_run(sweep, "failed-1", None, "failed", "RuntimeError: <script>alert('no')</script>")
    add_run(sweep, "running-1", None, "running")
    sweep.run("queued-012345678f").folder.mkdir()
    add_run(sweep, "torn-1", small("equal", 7))
    torn = sweep.run("torn-1").history
    torn.write_bytes(torn.read_bytes()[:2000])
    add_run(sweep, "malicious-1", None)
    sweep.run("malicious-1").history.write_bytes(pickle.dumps(Malicious(sweep.folder / "executed")))
    done = collect_elsewhere(sweep)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert not said["torch"]
    return sweep, Path(said["page"]), said["lines"]


class Malicious:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def test_what_has_finished_is_reported_and_everything_else_is_named(mixed):
    sweep, page, lines = mixed
    assert lines[0] == "collected 4 of 9 runs; not in this report: 1 failed, 1 queued, 1 running, 2 unreadable"
    assert any("malicious-1" in line and "mkdir" in line and "refused" in line for line in lines)
    assert any("torn-1" in line and "not a history" in line for line in lines)
    assert not (sweep.folder / "executed").exists()
    text = page.read_text()
    assert all(name in text for name in ("failed-1", "running-1", "queued-012345678f", "torn-1", "malicious-1"))
    assert "<script" not in text
    assert set(rows_of(sweep, "runs")) == {"equal-seed=0", "equal-seed=1", "pcgrad-seed=0", "pcgrad-seed=1"}


def test_every_figure_is_there_sharp_enough_to_print_and_as_pdf(mixed):
    sweep, *_ = mixed
    figures = {path.stem: path for path in (sweep.report / "figures").glob("*.png")}
    assert set(figures) >= FIGURES
    for name, path in figures.items():
        image = Image.open(path)
        assert min(image.info["dpi"]) >= 200, name
        assert image.width / image.info["dpi"][0] <= 7, "wider than a page"
        assert len(image.convert("L").getcolors()) > 20, f"{name} is empty"
        assert path.with_suffix(".pdf").read_bytes().startswith(b"%PDF")


def test_page_opens_in_a_browser_without_a_network(mixed):
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not chromium:
        pytest.skip("no chromium to open the page in")
    sweep, page, _ = mixed
    probe = page.with_name("probe.html")
    script = (
        "addEventListener('load', () => { const seen = [...document.images].map(i => i.naturalWidth);"
        "const box = document.createElement('pre'); box.id = 'seen'; box.textContent = JSON.stringify({seen,"
        "wide: document.documentElement.scrollWidth > innerWidth, title: document.title,"
        "links: [...document.links].map(a => a.getAttribute('href')),"
        "best: document.querySelectorAll('#table-results .best').length}); document.body.append(box); })"
    )
    probe.write_text(page.read_text().replace("</body>", f"<script>{script}</script></body>"))
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--proxy-server=127.0.0.1:9", "--window-size=500,900"]
    call = [chromium, *options, f"--user-data-dir={sweep.folder / '.chromium'}", "--dump-dom", probe.as_uri()]
    dom = subprocess.run(call, capture_output=True, text=True, timeout=60, check=True).stdout
    probe.unlink()
    found = json.loads(dom.split('<pre id="seen">')[1].split("</pre>")[0].replace("&gt;", ">").replace("&amp;", "&"))
    assert found["title"] == "mixed · mtlcluster"
    assert len(found["seen"]) >= len(FIGURES)
    assert all(width > 500 for width in found["seen"])
    assert not found["wide"], "the page itself scrolls sideways on a narrow screen"
    files = [link for link in found["links"] if not link.startswith("#")]
    assert files
    assert all((sweep.report / link).is_file() for link in files)


def test_tables_hold_the_numbers_of_the_histories(tmp_path):
    """By hand: accuracies .80, .84 → .82 ± .0283; Δm of a seed = 50 · (−(M−.8)/.8 + (M−2)/2), baselines .8 and 2.0."""
    sweep = make_sweep(tmp_path / "numbers")
    for task, value in (("left/accuracy", 0.8), ("ink/mae", 2.0)):
        name = task.split("/")[0]
        add_run(sweep, f"single-{name}", with_test_values(small(name, 0), {task: value}))
    values = {0: (0.80, 1.9), 1: (0.84, 2.3)}
    for seed, (accuracy, mae) in values.items():
        made = small("pcgrad", seed)
        made["info"]["best"]["epoch"] = 3
        made["series"]["validation/left/accuracy"]["value"][2] = accuracy / 2  # the chosen epoch, not the luckiest
        add_run(sweep, f"pcgrad-{seed}", with_test_values(made, {"left/accuracy": accuracy, "ink/mae": mae}))
    add_run(sweep, "equal-0", with_test_values(small("equal", 0), {"left/accuracy": 0.9, "ink/mae": float("nan")}))
    make_report(sweep, print)

    row = rows_of(sweep, "results")["pcgrad"]
    assert float(row["test/left/accuracy mean"]) == pytest.approx(0.82)
    assert float(row["test/left/accuracy std"]) == pytest.approx(0.04 / np.sqrt(2))
    assert row["test/left/accuracy n"] == "2"
    assert float(row["delta_m_percent mean"]) == pytest.approx((50 * -0.05 + 50 * (-0.04 / 0.8 + 0.15)) / 2)
    validation = rows_of(sweep, "validation")["pcgrad"]
    assert float(validation["validation/left/accuracy mean"]) == pytest.approx(0.41)
    equal = rows_of(sweep, "results")["equal"]
    assert (equal["test/left/accuracy std"], equal["test/ink/mae mean"], equal["test/ink/mae n"]) == ("", "nan", "0")
    assert equal["delta_m_percent mean"] == ""
    assert rows_of(sweep, "runs")["pcgrad-1"]["test/ink/mae"] == "2.3"
    assert mean_ranks([[0.9, 2.0], [0.8, 1.0], [0.9, 3.0]], ["max", "min"]) == [1.75, 2.0, 2.25]
    markdown = (sweep.report / "tables" / "results.md").read_text()
    assert "0.820 ± 0.028" in markdown
    assert "single-task" in markdown


def test_of_binary_tasks_results_show_what_matters_and_tables_everything(tmp_path):
    metrics = ("accuracy", "precision", "recall", "f1", "f1_macro", "f1_weighted", "roc_auc", "average_precision")
    tasks = [{"name": n, "kind": "binary", "metrics": dict.fromkeys(metrics, "max")} for n in ("gory", "sarcasm")]
    sweep = make_sweep(tmp_path / "binary")
    for seed in range(2):
        made = history(method(), seed, tasks=tasks, epochs=6, points=12)
        for data, epochs in (("validation", np.arange(1, 7)), ("test", np.array([made["info"]["best"]["epoch"]]))):
            for i, name in enumerate(("mean_f1", "exact_match", "hamming_score")):
                made["series"][f"{data}/{name}"] = {"epoch": epochs, "value": epochs * 0.0 + 0.1 * i + 0.02 * seed}
            for task in ("gory", "sarcasm"):
                counts = np.array([[[50.0, 10.0], [4.0, 30.0 + seed]]] * len(epochs))
                made["series"][f"{data}/{task}/confusion"] = {"epoch": epochs, "value": counts}
        made["series"]["validation/gory/threshold"] = {"epoch": np.arange(1, 7), "value": np.full(6, 0.31)}
        add_run(sweep, f"equal-{seed}", made)
    text = make_report(sweep, print).read_text()

    results = rows_of(sweep, "results")["equal"]
    shown = [name.removesuffix(" mean") for name in results if name.endswith(" mean")]
    each = ["test/gory/f1", "test/sarcasm/f1"]
    assert shown == ["test/mean_f1", "test/exact_match", "test/hamming_score", *each]
    assert float(results["test/hamming_score mean"]) == pytest.approx(0.21)
    every = rows_of(sweep, "validation")["equal"]
    assert all(every[f"validation/{task}/{name} n"] == "2" for task in ("gory", "sarcasm") for name in metrics)
    counts = rows_of(sweep, "confusion")["equal"]
    found = {cell: float(counts[f"test/gory/confusion/{cell} mean"]) for cell in CELLS}
    assert found == dict(zip(CELLS, (50, 10, 4, 30.5), strict=True))
    assert rows_of(sweep, "runs")["equal-1"]["test/sarcasm/confusion/true_positives"] == "31.0"
    assert 'id="table-validation-1"' in text, "each task should have a table of its own where one were too wide"
    assert "Thresholds:" in text


def test_runs_that_differ_only_in_the_seed_are_one_setting(tmp_path):
    sweep = make_sweep(tmp_path / "settings")
    for lr in (0.001, 0.01):
        for seed in range(3 if lr == 0.01 else 1):
            made = small("pcgrad", seed, varied={"optimizer.lr": lr, "data.augment": {"flip": [True], "crop": 4}})
            made["info"]["config"]["resources"] = {"time": f"{seed + 1}h"}
            made["info"]["config"]["data"]["path"] = f"/place{seed}/digits.h5"
            add_run(sweep, f"pcgrad-{lr}-{seed}", made)
    runs, omitted = read_histories(list_runs(sweep), int)
    assert not omitted
    assert {setting.label: setting.seeds for setting in group_runs(runs)} == {
        "pcgrad lr=0.001": (1, 1),
        "pcgrad lr=0.01": (3, 3),
    }


def test_seeds_of_different_length_and_single_seeds_are_drawn(tmp_path):
    def curve(*values: float) -> Curve:
        return Curve("epoch", np.arange(1.0, len(values) + 1), np.array(values))

    made = band([curve(1, 2, 3, 4), curve(3, 4), curve(5, np.nan, 7, 8)], end=4)
    assert made.mean.tolist() == [3, 3, 5, 6]
    assert made.low.tolist() == [1, 2, 3, 4]
    assert made.whole.tolist() == [True, True, False, False]
    assert band([curve(1, 2, 3), curve(1), curve(2)], end=3).x.tolist() == [1]

    sweep = make_sweep(tmp_path / "lengths")
    add_run(sweep, "equal-0", small("equal", 0))
    add_run(sweep, "pcgrad-0", small("pcgrad", 0))
    add_run(sweep, "pcgrad-1", small("pcgrad", 1, stopped_after=3))
    text = make_report(sweep, print).read_text()
    assert "no band where n = 1" in text
    assert "A line is pale" in text


def contents(sweep: Sweep) -> dict[Path, tuple[int, bytes]]:
    return {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in sweep.report.rglob("*") if p.is_file()}


def test_a_report_is_made_again_only_for_something_new_and_replaced_only_when_whole(tmp_path):
    sweep = make_sweep(tmp_path / "again")
    add_run(sweep, "equal-0", small("equal", 0))
    add_run(sweep, "equal-1", None, "running")
    make_report(sweep, print)
    stale, own = sweep.report / "figures" / "former.png", sweep.report / "tables" / "my-notes.md"
    for path in (stale, own):
        path.touch()
    made = sweep.report / ".made.json"  # a figure that a former report had
    entry = json.loads(made.read_text())
    made.write_text(json.dumps({**entry, "files": [*entry["files"], "figures/former.png"]}))
    former = contents(sweep)
    sweep.run("equal-1").status.write_text(json.dumps({"state": "running", "heartbeat": 1.5e9}))
    lines: list[str] = []
    make_report(sweep, lines.append)
    assert lines == ["collected 1 of 2 runs; not in this report: 1 running", "nothing new since the last report"]
    assert contents(sweep) == former

    write_history(sweep.run("equal-0").history, small("equal", 5))
    assert collect_elsewhere(sweep, "die").returncode == 9, "it should have been drawing"
    assert contents(sweep) == former

    write_history(sweep.run("equal-1").history, small("equal", 1))
    sweep.run("equal-1").status.write_text(json.dumps({"state": "done"}))
    lines.clear()
    make_report(sweep, lines.append)
    assert lines == ["collected 2 of 2 runs"]
    assert not stale.exists()
    assert own.exists(), "it is no file of ours"
    assert not (sweep.folder / ".report.new").exists()
    assert set(rows_of(sweep, "runs")) == {"equal-0", "equal-1"}

    sweep.run("equal-1").status.write_text(json.dumps({"state": "failed", "error": "its history stayed"}))
    lines.clear()
    make_report(sweep, lines.append)
    assert lines == ["collected 1 of 2 runs; not in this report: 1 failed"]


def test_names_with_markup_reach_the_reader_as_text(tmp_path):
    sweep = make_sweep(tmp_path / "<b>bold & $x$")
    tasks = [{"name": "<i>$\\frac$|left</i>", "kind": "regression", "metrics": {}}]
    for seed in range(2):
        made = history(method(), seed, label="<script>x</script>", tasks=tasks, epochs=3, points=9)
        add_run(sweep, f"<u>{seed}", made)
    text = make_report(sweep, print).read_text()
    assert not any(mark in text for mark in ("<b>bold", "<i>", "<script", "<u>"))
    assert "<h1>&lt;b&gt;bold &amp; $x$</h1>" in text
    assert "\\\\frac\\$\\|left" in (sweep.report / "tables" / "results.md").read_text()


def test_all_sweeps_are_collected_though_in_some_nothing_has_finished(tmp_path):
    for name, state in (("a", "cancelled"), ("b", "done")):
        add_run(make_sweep(tmp_path / name), "equal-0", small("equal", 0), state)
    result = CliRunner().invoke(app, ["collect", "--runs", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "b" / "report" / "index.html").exists()
    assert "sweep 'a': nothing has finished yet (1 cancelled)" in result.stdout


def test_nothing_finished_says_what_there_is_and_what_to_type(tmp_path):
    sweep = make_sweep(tmp_path / "early")
    with pytest.raises(UserError, match="it has no runs"):
        make_report(sweep, print)
    add_run(sweep, "a", None, "running")
    add_run(sweep, "b", None, "queued")
    sweep.run("c-012345678f").folder.mkdir()
    with pytest.raises(UserError, match=r"nothing has finished yet \(2 queued, 1 running\)"):
        make_report(sweep, print)
    result = CliRunner().invoke(app, ["collect", "early", "--runs", str(tmp_path)])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.endswith(f"; see mtlcluster status early --runs {tmp_path}\n")
    made = small("equal", 0)
    made["info"]["finished"] = False
    add_run(sweep, "d", made)
    del made["series"]
    made["info"]["finished"] = True
    add_run(sweep, "e", made)
    foreign = small("equal", 1)
    foreign["info"]["best"] = {"epoch": 3}
    add_run(sweep, "f", foreign)
    unreadable = r"no history can be read; passed over d: .*no end; passed over e: .*series.*passed over f: .*value"
    with pytest.raises(UserError, match=unreadable):
        make_report(sweep, print)
    assert not sweep.report.exists()
