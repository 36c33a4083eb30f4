"""trials.json and choices/METHOD.json may come from anybody: a wrong value is one sentence that names the file."""

import copy
import json

import pytest

from mtlcluster.sweep.choices import Candidate, Choice, choices_file, read_choices, write_choices
from mtlcluster.sweep.reading import Unreadable
from mtlcluster.sweep.trials import Search, SearchedMethod, Trial, read_search, write_search

RUN = "3f9a1c5e20"
TRIALS = [Trial(0, {"optimizer.lr": 0.01}, {0: RUN, 2**63 - 1: RUN}), Trial(1, {"model.width": [8, {"a": [1]}]}, {})]
METHOD = SearchedMethod("pcgrad", {"gradient": {"name": "pcgrad"}}, ["optimizer.lr"], "a", TRIALS)
SEARCH = Search(
    5, "relative_loss", "min", [0], [1, 2], {"at": [0.1], "keep": 0.5}, ["optimizer.lr"], {"pcgrad": METHOD}
)
CHOICE = Choice(1, 0, {"optimizer.lr": 0.01}, 1.5, [Candidate(0, 0.5, {0: 0.5}, 3)], {1: f"pcgrad-seed=1-{RUN}"})
EVIL = [
    None, True, -1, 1.5, 10**30, float("nan"), float("inf"), "", "../x", "x" * 300, [], [[1]], {}, {"../x": {"y": 1}}
]  # fmt: skip


def places(value, place=()):
    yield place
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*place, key))


def changed(entry, place, new):
    entry = copy.deepcopy(entry)
    *outer, last = place
    inner = entry
    for key in outer:
        inner = inner[key]
    inner[last] = new
    return entry


def read_each_wrong(path, read):
    """Reads the file with every value replaced by every evil one. Returns the places at which none was refused."""
    entry, never_refused = json.loads(path.read_text()), []
    for place in places(entry):
        refused = 0
        for new in EVIL:
            path.write_text(json.dumps(changed(entry, place, new) if place else new))
            try:
                read()
            except Unreadable as error:
                refused += str(error).startswith(f"{path}: ")
        never_refused += [] if refused else [place]
    return never_refused


def test_what_is_written_is_read_again(tmp_path):
    write_search(tmp_path / "trials.json", SEARCH)
    assert read_search(tmp_path / "trials.json") == SEARCH
    write_choices(tmp_path, "pcgrad", [CHOICE])
    assert read_choices(tmp_path, "pcgrad") == [CHOICE]


def test_wrong_values_in_trials_json_are_refused(tmp_path):
    path = tmp_path / "trials.json"
    write_search(path, SEARCH)
    assert read_each_wrong(path, lambda: read_search(path)) == []


def test_wrong_values_in_choices_are_refused(tmp_path):
    write_choices(tmp_path, "pcgrad", [CHOICE])
    unread = [("method",)]  # the name of the file says it
    assert read_each_wrong(choices_file(tmp_path, "pcgrad"), lambda: read_choices(tmp_path, "pcgrad")) == unread


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"methods": {"../x": {}}}, "'../x' is no name of a method"),
        ({"direction": "up"}, "direction is 'up'"),
        ({"format": 2}, "its format is not 1"),
    ],
)
def test_the_sentence_says_what_is_wrong(tmp_path, wrong, message):
    path = tmp_path / "trials.json"
    write_search(path, SEARCH)
    path.write_text(json.dumps(json.loads(path.read_text()) | wrong))
    with pytest.raises(Unreadable, match=message):
        read_search(path)
