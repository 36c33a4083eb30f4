"""What the page's verdict says to a reader."""

import re

import pytest
from rig.contests import Contestants, verdict_of
from rig.synthetic_sweep import method

from mtlcluster.collect.verdict.section import verdict_section

FOUR = [0.80, 0.81, 0.805, 0.802]


@pytest.fixture
def sweep(tmp_path):
    return Contestants.at(tmp_path / "runs")


def page(sweep):
    return "\n".join(verdict_section(verdict_of(sweep.sweep)))


def text(html):
    return re.sub(r"<[^>]+>", "", html)


def bold(html):
    """The names of the rows in bold. Nothing else in the verdict may be bold."""
    assert not re.search("<b>|font-weight|<td class", html)
    assert all(strong == "Missing for a fair comparison:" for strong in re.findall("<strong>(.*?)</strong>", html))
    return re.findall("<tr class=best><th scope=row><span>(.*?)</span>", html)


def test_a_clear_winner_is_bold_and_named_with_interval_comparisons_and_seeds(sweep):
    sweep.singles(seeds=range(4))
    sweep.plain("equal", FOUR)
    sweep.plain("pcgrad", [value + 0.1 for value in reversed(FOUR)])
    sweep.plain("cagrad", [0.803, 0.808, 0.801, 0.807])
    html = page(sweep)
    assert bold(html) == ["pcgrad"]
    assert re.search(
        r"pcgrad is better than the plain sum by 6\.\d points \(\d\.\d to \d\.\d\) \(simultaneous 95 %, 2 comp", html
    )
    assert "Bold: not told apart from the best (paired Tukey, 5 %)" in text(html)
    assert re.search(r"<td>\+6\.\d</td><td>\+\d\.\d to \+\d\.\d</td><td>better</td>", html)


def test_where_nobody_is_told_apart_nothing_is_bold(sweep):
    sweep.singles(seeds=range(4))
    sweep.plain("equal", FOUR)
    sweep.plain("pcgrad", [0.803, 0.808, 0.801, 0.807])
    html = page(sweep)
    assert bold(html) == []
    assert "Bold" not in html
    assert "No method is found better than the plain sum" in html
    assert "The best of 2 methods is told apart from none of the others" in html


def test_of_one_seed_there_are_no_intervals(sweep):
    sweep.singles(seeds=range(1))
    sweep.plain("equal", [0.8])
    sweep.plain("pcgrad", [0.95])
    html = page(sweep)
    assert bold(html) == []
    assert "With one seed no test is possible" in html
    assert "Dunnett" not in html
    assert "nan" not in html
    assert "<td>–</td><td>not tested</td><td>–</td>" in html


def test_half_way_the_page_says_so_and_nothing_is_bold(sweep):
    """Also where everything that values could be relative to is still to come."""
    for name in ("equal", "pcgrad", "cagrad"):
        sweep.tried(name, method() if name == "equal" else method(gradient=name), [0.5, 0.4])
        if name != "equal":
            values = {seed: {"left/accuracy": 0.7 + 0.1 * (name == "cagrad"), "ink/mae": 2.0} for seed in (1, 2, 3)}
            sweep.confirmed(name, method(gradient=name), 1, values)
    sweep.search([1, 2, 3])
    html = page(sweep)
    assert bold(html) == []
    assert "Half-way: runs are still to come" in html
    assert "3 methods: of each, the setting with the best validation/relative_loss among 2 trials" in html
    assert "Not compared: equal (its setting is not chosen yet)." in html
    assert "No method is scored yet" in html
    assert "points are" not in html


def test_what_a_fair_comparison_lacks_is_asked_for_with_the_lines_to_add(sweep):
    sweep.plain("pcgrad", FOUR)
    sweep.plain("cagrad", FOUR)
    asked = re.search('<div class="missing">.*?</div>', page(sweep)).group()
    for line in (
        "tune: {trials: 12} and confirm: {seeds: 5}",
        "add to the grid&#x27;s methods: equal",
        "{schedule: single}, and to the grid: set: {tasks: [left, ink]}",
        "{weighting: {name: static, draws: 12}}",
    ):
        assert line in asked
    assert "Nothing was tuned: 2 settings of the grid are taken as they are." in page(sweep)


def test_names_of_the_user_are_no_markup(sweep):
    sweep.singles()
    sweep.plain("equal", FOUR[:3])
    own = method(gradient={"name": "pcgrad", "note": "<script>alert(1)</script>&"})
    for seed, value in enumerate(FOUR[:3]):
        sweep.run("own", seed, own, {"left/accuracy": value + 0.1, "ink/mae": 2.0})
    html = page(sweep)
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;&amp;" in html
