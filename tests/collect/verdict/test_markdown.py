"""verdict.md."""

import pytest
from rig.contests import Contestants, verdict_of
from rig.synthetic_sweep import method

from mtlcluster.collect.verdict.markdown import verdict_markdown


@pytest.mark.parametrize("lead", [0.1, 0.0])
def test_only_a_strict_best_group_is_bold_and_names_do_not_break_the_table(tmp_path, lead):
    sweep = Contestants.at(tmp_path / "runs")
    sweep.singles(seeds=range(4))
    sweep.plain("equal", [0.80, 0.81, 0.805, 0.802])
    own = method(gradient={"name": "pcgrad", "note": "a|b*c*"})
    for seed, value in enumerate([0.803, 0.808, 0.801, 0.807]):
        sweep.run("own", seed, own, {"left/accuracy": value + lead, "ink/mae": 2.0})
    text = verdict_markdown("my|sweep", verdict_of(sweep.sweep))
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    cells = {line.replace(r"\|", "").count("|") for line in rows}
    assert len(cells) == 1, rows
    assert [line.split(" |")[0] for line in rows if "**" in line] == ([r"| **pcgrad(note=a\|b\*c\*)**"] if lead else [])
    assert ("Bold: not told apart" in text) is bool(lead)
    assert text.startswith("# my\\|sweep\n")
