"""The verdict's figures, and the looks that they share with all others."""

import pytest
from matplotlib.colors import same_color
from rig.contests import Contestants
from rig.synthetic_sweep import method

from mtlcluster.collect.read_histories import read_histories
from mtlcluster.collect.run_list import list_runs
from mtlcluster.collect.settings import group_runs, trained_tasks
from mtlcluster.collect.verdict.contest import make_contest
from mtlcluster.collect.verdict.expected_best_plot import draw_expected_best
from mtlcluster.collect.verdict.forest_plot import draw_forest
from mtlcluster.collect.verdict.looks import choose_all_looks
from mtlcluster.collect.verdict.verdict import make_verdict


@pytest.fixture
def searched(tmp_path):
    sweep = Contestants.at(tmp_path / "runs")
    for number, name in enumerate(("equal", "pcgrad", "cagrad")):
        full = method() if name == "equal" else method(gradient=name)
        sweep.tried(name, full, [0.5, 0.4 - 0.01 * number, 0.45])
        values = [0.80, 0.82, 0.84] if name == "equal" else [0.90 + 0.001 * number, 0.922, 0.94]
        sweep.confirmed(name, full, 2, {s: {"left/accuracy": v, "ink/mae": 2.0} for s, v in enumerate(values, 1)})
    sweep.search([1, 2, 3])
    finished, omitted = read_histories(list_runs(sweep.sweep), lambda: None)
    settings = group_runs(finished)
    return settings, make_contest(sweep.sweep, settings, trained_tasks(finished), finished, omitted)


def test_the_chosen_settings_are_in_front_and_look_like_their_methods(searched):
    """Trial 2 was chosen on disk, though trial 1 has the better value."""
    settings, contest = searched
    looks = choose_all_looks(contest, settings)
    front = {s.label: look for s, look in zip(settings, looks.settings, strict=True) if look.in_front}
    assert {*front} == {f"{name} lr=0.003" for name in ("equal", "pcgrad", "cagrad")}
    assert all(looks.methods[label.split()[0]] is look for label, look in front.items())
    figure, _ = draw_expected_best(contest.rows, looks.methods)
    lines = {line.get_label(): line for line in figure.axes[0].get_lines()}
    drawn = [line.get_color() for line in lines.values()]
    wanted = [looks.methods[row.name].colour for row in contest.rows.rows]
    assert all(same_color(one, other) for one, other in zip(drawn, wanted, strict=True))
    assert len({*map(str, drawn)}) == 3


def test_the_forest_has_a_row_for_each_method_with_the_intervals_of_the_verdict(searched):
    _, contest = searched
    verdict = make_verdict(contest)
    figure, caption = draw_forest(verdict)
    [axis] = figure.axes
    compared = {m.name: m.versus_reference for m in verdict.methods if m.versus_reference}
    assert {label.get_text() for label in axis.get_yticklabels()} == {*compared} == {"pcgrad", "cagrad"}
    segments = sorted(
        path.vertices[:, 0].tolist()
        for lines in axis.collections[:]
        for path in lines.get_paths()
        if len(path.vertices) == 2
    )
    assert segments == sorted([one.low, one.high] for one in compared.values())
    assert "all 2 intervals hold at once with 95 % (Dunnett)" in caption
