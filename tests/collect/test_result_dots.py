"""The figure of the results."""

from rig.contests import Contestants, verdict_of
from rig.synthetic_sweep import method

from mtlcluster.collect.colours import plain_looks
from mtlcluster.collect.figures import Figures
from mtlcluster.collect.read_histories import read_histories
from mtlcluster.collect.result_dots import baseline_lines
from mtlcluster.collect.run_list import list_runs
from mtlcluster.collect.settings import group_runs, trained_tasks
from mtlcluster.collect.tables import make_tables


def test_the_dashed_lines_are_the_baselines_of_the_verdict_not_the_first_row(tmp_path):
    """Single-task training with two learning rates: the one with the better validation value is the baseline."""
    sweep = Contestants.at(tmp_path / "runs")
    for lr, number, left, ink in ((0.1, 0.5, 0.9, 1.0), (0.2, 0.4, 0.7, 2.5)):
        for task, value in (("left/accuracy", left), ("ink/mae", ink)):
            name = task.split("/")[0]
            full, varied = method(schedule={"name": "single", "task": name}), {"optimizer.lr": lr}
            sweep.run(f"{name}-lr={lr}", 0, full, {task: value}, number=number, varied=varied)
    sweep.plain("equal", [0.8])
    finished, _ = read_histories(list_runs(sweep.sweep), lambda: None)
    settings, tasks, verdict = group_runs(finished), trained_tasks(finished), verdict_of(sweep.sweep)
    table = make_tables(settings, tasks, {})[0]
    drawing = Figures(
        settings, tasks, table, plain_looks(settings), baseline_lines(verdict), relative_to=verdict.relative_to
    )
    figure, caption = drawing.results()
    lines = {axis.get_title(loc="left"): [line.get_xdata()[0] for line in axis.get_lines()] for axis in figure.axes}
    assert {title.split("\n")[0]: x for title, x in lines.items() if "rank" not in title} == {
        "left": [0.7],
        "ink": [2.5],
    }
    assert "The dashed line is the baseline of the verdict, single-task training." in caption
