"""Words without quotes in YAML files are read as in YAML 1.2, or refused with their line in plain words."""

import re

import pydantic
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mtlcluster.config.cluster import ClusterOptions, find_cluster
from mtlcluster.config.grid import read_grid
from mtlcluster.config.grid_file import GridFile
from mtlcluster.config.run import RunConfig, read_run_config
from mtlcluster.config.yaml_file import YamlFile, dump
from mtlcluster.errors import UserError
from mtlcluster.pydantic_errors import first_mistake

READ = {
    "010": 10, "08": 8, "0o10": 8, "0x1F": 31, "+1": 1, "-0": 0, "!!int '010'": 10,
    "1e3": 1000.0, ".5": 0.5, "1.": 1.0, "-.INF": -float("inf"), "!!float 1": 1.0,
    "TRUE": True, "~": None, "": None, "null": None,
    "1_000": "1_000", "1:30": "1:30", "190:20:30": "190:20:30", "0b11": "0b11", "-0x1F": "-0x1F", "0o8": "0o8",
    "2024-01-01": "2024-01-01", "2024-01-01 10:00:00": "2024-01-01 10:00:00", "1e": "1e", ".": ".", "inf": "inf",
    "yes": "yes", "no": "no", "On": "On", "OFF": "OFF", "y": "y", "Yes, please": "Yes, please", "=": "=", "<<": "<<",
    "'08'": "08", '"true"': "true", "!!str 08": "08",
}  # fmt: skip


@pytest.fixture
def write(project):
    def write_text(text, name="g.yaml"):
        path = project / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write_text


def test_words_are_read_as_yaml_1_2_says(write):
    found = YamlFile(write("".join(f"k{i}: {text}\n" for i, text in enumerate(READ)))).data
    assert {text: repr(found[f"k{i}"]) for i, text in enumerate(READ)} == {text: repr(v) for text, v in READ.items()}


NUMBERS = st.booleans() | st.integers() | st.floats(allow_nan=False)
LEAVES = st.none() | NUMBERS | st.sampled_from(list(READ)) | st.text()


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy
@given(st.dictionaries(st.text(min_size=1), st.recursive(LEAVES, st.lists, max_leaves=5), max_size=5))
def test_what_is_written_reads_back_the_same(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "round.yaml"
    path.write_text(dump(data), "utf-8")
    assert repr(YamlFile(path).data) == repr(data)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 1\nb: 1e999\n", 2, "too large for a number: '1e999'"),
        ("a: 1\nb: " + "9" * 5000, 2, "too large for a number"),
        ("a: 1\nb: !!python/object/apply:os.system [ls]\n", 2, "a tag that means nothing here: !!python"),
        ("a: 1\nb: !!timestamp 2024-01-01\n", 2, "a tag that means nothing here: !!timestamp"),
        ("a: 1\nb: !!set {x, y}\n", 2, "a tag that means nothing here: !!set"),
        ("a: 1\nb: !own x\n", 2, "a tag that means nothing here: !own"),
        ("a: 1\nb: !!bool yes\n", 2, "'yes' does not fit its tag !!bool"),
        ("a: 1\n? [x, y]\n: 2\n", 2, "a key must be a plain word"),
        ("a: 1\ntrue: 2\n", 2, "a key must be a plain word"),
        ("a: 1\n~: 2\n", 2, "a key must be a plain word"),
        ("a: 1\n1.5: 2\n", 2, "a key must be a plain word"),
        ("a: 1\nb: 2\na: 3\n", 3, "key 'a' is already in line 1"),
        ("1: 1\nb: 2\n0x1: 3\n", 3, "key '1' is already in line 1"),
        ("a: &a {x: 1}\nb:\n  <<: *a\n  y: 1\n  y: 2\n", 5, "key 'y' is already in line 4"),
        ("a: &a {x: 1}\nb:\n  <<: *a\n  <<: *a\n", 4, "key '<<' is already in line 3"),
        ("a: 1\nb: {<<: 5}\n", 2, "'<<' should be an alias"),
        ("a: 1\nb:\n\t- c\n", 3, "not valid YAML"),
        ("a: 1\n---\nb: 2\n", 2, "not valid YAML: but found another document"),
        ("a: 1\nb: *nowhere\n", 2, "undefined alias"),
        ("a: 1\nb: \x01\n", 2, "control characters"),
        ("a: 1\nb: &b [*b]\n", 2, "nested more than 50 levels"),
        ("a: 1\nb: &b {<<: *b}\n", 2, "nested more than 50 levels"),
        ("a: 1\nb: " + "[" * 3000 + "]" * 3000, 2, "nested"),
        ("- a\n", 1, "expected keys and values, found a list"),
        ("nothing\n", 1, "expected keys and values, found 'nothing'"),
    ],
)
def test_invalid_yaml_is_refused_with_its_line(write, text, line, words):
    path = write(text)
    with pytest.raises(UserError, match=re.escape(words)) as told:
        YamlFile(path)
    assert str(told.value).startswith(f"{path}:{line}: ")
    assert len(str(told.value)) < 300


def test_a_byte_order_mark_is_no_part_of_the_text_and_utf_16_is_refused(write):
    assert YamlFile(write("\ufeffname: g\n")).data == {"name": "g"}
    with pytest.raises(UserError, match=r"g\.yaml: not a text in UTF-8"):
        YamlFile(write("name: g\n".encode("utf-16")))


def test_own_keys_win_over_merged_ones(write):
    text = "a: &a {x: 1, y: 1}\nb: &b {x: 2, z: 2}\nc:\n  y: 3\n  <<: [*a, *b]\nd: {<<: *b, x: 4}\n"
    found = YamlFile(write(text))
    assert found.data["c"] == {"x": 1, "y": 3, "z": 2}
    assert found.data["d"] == {"x": 4, "z": 2}
    assert (found.line(("c", "y")), found.line(("c", "z"))) == (4, 2)


def test_seeds_and_options_of_a_grid(write):
    grid = read_grid(write("name: g\njob: tiny\ngrid: {seed: [010, 020, 08, 0o10]}\n"))
    assert [run.config.seed for run in grid.runs] == [10, 20, 8]  # 08 and 0o10 are one run
    assert grid.repeated == 1


GRID = "name: g\njob: tiny\nset: {{data.path: x}}\ngrid:\n  {}\n"
WRONG = [
    ("seed: [1_000]", "seed should be a valid integer, found '1_000'; write 1000"),
    ("seed: [1:30]", "seed should be a valid integer, found '1:30'"),
    ("seed: [1e3]", "seed should be a valid integer, found 1000.0"),
    ("seed: [2024-01-01]", "seed should be a valid integer, found '2024-01-01'"),
    ("seed: [0b11]", "seed should be a valid integer, found '0b11'; write 3"),
    ("seed: 3", "grid.seed should be a list of values, or {range: …}, found 3"),
    ("seed: {range: 1_0}", "grid.seed.range should be a count or [start, stop] or [start, stop, step], found '1_0'"),
    ("seed: {range: [1, 5, 0]}", "grid.seed.range should be a count or [start, stop]"),
    ("seed: {rnage: 5}", "unknown key 'rnage'"),
    ("optimizer.lr: [.inf]", "optimizer.lr should be a finite number, found inf"),
    ("optimizer.lr: [.nan]", "optimizer.lr should be a finite number, found nan"),
    ("gradient_clip: [.inf]", "gradient_clip should be a finite number, found inf"),
    ("method: [{weighting: {name: gradnorm, alpha: .inf}}]", "weighting 'gradnorm': alpha should be a finite number"),
    ("compile: [yes]", "compile should be a valid boolean, found 'yes'; write true"),
    ("deterministic: [off]", "deterministic should be a valid boolean, found 'off'; write false"),
    ("optimizer: [adam]", "optimizer should be keys and values, found 'adam'"),
    ("tasks: [[]]", "tasks should have at least 1 of them, found []"),
    ("model.width: [1:30]", "model.width should be a valid integer, unable to parse string as an integer, found "),
    ("model.width: [1.5]", "model.width should be a valid integer, got a number with a fractional part, found 1.5"),
    ("model.slow: [2024-01-01]", "model.slow should be a valid number, unable to parse string as a number, found"),
    ("model.slow: [~]", "model.slow should be a valid number, found null"),
    ("data.noisy: [perhaps]", "data.noisy should be a valid boolean, unable to interpret input, found 'perhaps'"),
    ("data.path: [010]", "data.path should be a valid string, found 10"),
    ("model.width: [8, '8']", "model.width: 8 and '8' read alike; write both in the same way"),
    ("model.width: [1000, 1_000]", "model.width: 1000 and '1_000' read alike; write both in the same way"),
    ("data.noisy: [no, false]", "data.noisy: 'no' and false read alike; write both in the same way"),
    ("data.noisy: [1, true]", "data.noisy: 1 and true read alike; write both in the same way"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "words"), WRONG)
def test_a_value_of_a_wrong_type_is_refused_with_its_line(write, line, words):
    path = write(GRID.format(line))
    with pytest.raises(UserError, match=re.escape(words)) as told:
        read_grid(path)
    assert str(told.value).startswith(f"{path}:5: ")


ALIKE = ["[8, '8']", "['8', 8]", "[8, 8.0]", "[true, 'true']", "[null, 'null']", "[1e3, '1000']", "['0x10', 16]"]


@pytest.mark.parametrize("values", [*ALIKE, "[[8, a], ['8', a]]", "[{k: 1}, {k: '1'}]", "['~', ~]"])
def test_values_that_read_alike_are_one_run_or_refused(write, project, values):
    (project / "jobs" / "loose.py").write_text("def build(model: dict): ...\n")
    path = write(f"name: g\njob: loose\ngrid:\n  seed: [0]\n  model.width: {values}\n")
    with pytest.raises(UserError, match=r"model\.width: .* and .* read alike; write both in the same way") as told:
        read_grid(path)
    assert str(told.value).startswith(f"{path}:5: ")


def test_texts_and_numbers_that_differ_are_runs_of_their_own(write, project):
    (project / "jobs" / "loose.py").write_text("def build(model: dict): ...\n")
    values = "[8, 8.5, '8a', true, '1.0', '1', 'True?', null, 0, false, [8], {k: 8}]"
    assert len(read_grid(write(f"name: g\njob: loose\ngrid: {{model.width: {values}}}\n")).runs) == 12


@pytest.mark.parametrize("key", ["1", "true", "~", "1.5"])
def test_a_key_that_is_no_word_is_refused_everywhere(write, key):
    run = write(f"job: tiny\nepochs: 1\n{key}: 2\n", "run.yaml")
    places = {
        read_grid: [
            GRID.format(f"seed: [0]\n{key}: 2"),
            GRID.format(f"{key}: [0]"),
            GRID.format(f"seed: [0]\nset: {{{key}: 2}}").replace("set: {data.path: x}\n", "\n"),
            GRID.format(f"seed: [0]\nresources: {{{key}: 2}}"),
            GRID.format("seed: [0]\nbase: run.yaml"),
        ],
        read_run_config: [run.read_text()],
    }
    for read, texts in places.items():
        for text in texts:
            with pytest.raises(UserError, match=r"\.yaml:\d: .*(key|Keys)"):
                read(write(text))
    write(f"lab:\n  {key}: 2\n", "clusters.yaml")
    with pytest.raises(UserError, match=r"clusters\.yaml:[12]: "):
        find_cluster("lab", run.parent)


NAN, INFINITE = float("nan"), float("inf")
OWN_METHOD = """from typing import Literal
from mtlcluster import gradient
@gradient
class Mine:
    def __init__(
        self, context, *, a: float | str = 1.0, b: dict[str, int | list[int]] | None = None, c: Literal["x"] | int = 1
    ): ...
    def weights(self, gramian, active): ...
"""


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("a: [1]", "a should be a valid number or a valid string, found [1]"),
        ("b: {k: x}", "b.k should be a valid integer or a valid list, found 'x'"),
        ("b: 5", "b should be keys and values, found 5"),
        ("b: {1: 1}", "b.1: a key should be a word here"),
        ("c: y", "c should be 'x' or a valid integer, found 'y'"),
    ],
)
def test_wrong_options_of_own_methods_are_refused_in_the_same_words(write, project, option, words):
    (project / "mine.py").write_text(OWN_METHOD)
    path = write(f"name: g\njob: tiny\ngrid:\n  method: [{{gradient: {{name: mine.py:Mine, {option}}}}}]\n")
    with pytest.raises(UserError, match=re.escape(f"gradient 'Mine': {words}")) as told:
        read_grid(path)
    assert str(told.value).startswith(f"{path}:4: ")


VALUES = [None, True, -1, 0, 10**30, 1.5, INFINITE, NAN, "x", "", [], [1], ["a"], [[]], {}, {"a": 1}, {1: 2}]
INTERNAL = re.compile(
    r"\[any\]|\[key\]|dict\[|list\[|str\b|\bint\b|function-|union|instance of|validation|pydantic|Keys|NoneType|Range"
)


def test_no_message_has_a_word_of_python_or_pydantic():
    """Tried with every option and every wrong type."""

    def places(model, above=()):
        for name, field in model.model_fields.items():
            yield (*above, name)
            for inner in (field.annotation, *getattr(field.annotation, "__args__", ())):
                if isinstance(inner, type) and issubclass(inner, pydantic.BaseModel):
                    yield from places(inner, (*above, name))

    seen = 0
    for model, needed in ((GridFile, {"name": "n"}), (RunConfig, {"job": "j"}), (ClusterOptions, {})):
        for place in places(model):
            for value in [*VALUES, {"x": [1]}, {"x": {1: 2}}, {"x": {"y": 1}}, [{"x": 1}], [{"x": {}}], [{1: [1]}]]:
                found = value
                for key in reversed(place):
                    found = {key: found}
                try:
                    model.model_validate(needed | found)
                except pydantic.ValidationError as error:
                    words = first_mistake(error, model)[1]
                    seen += 1
                    assert not INTERNAL.search(words.partition(", found")[0]), (place, value, words)
    assert seen > 500


FAR = ["99999999999999999999", "[0, 99999999999999999999]", "[9223372036854775800, 9223372036854775809]", "9" * 4000]


@pytest.mark.parametrize("count", [*FAR, "-3", "[1, 2, 3, 4]", "[]", "true", "'5'", "[0, 10, -1]"])
def test_a_range_of_any_length_is_counted_or_refused_with_its_line(write, count):
    path = write(f"name: g\njob: tiny\ngrid:\n  seed: {{range: {count}}}\n")
    with pytest.raises(UserError, match=r"g\.yaml:[34]: ") as told:
        read_grid(path)
    assert len(str(told.value)) < 400


def test_a_range_has_as_many_runs_as_values(write):
    far = "[0, 100000000000000000000, 50000000000000000000]"
    for count, expected in [("[0, 10, 3]", 4), ("[10, 0, -3]", 4), ("[5, 6]", 1), ("010", 10), (far, 2)]:
        path = write(f"name: g\njob: tiny\ngrid: {{epochs: [1], model.width: {{range: {count}}}}}\n")
        assert len(read_grid(path).runs) == expected


def test_texts_that_yaml_1_1_reads_otherwise_are_written_with_quotes():
    for text in ("010", "1_000", "1:30", "yes", "2024-01-01", "0b11", "0o10", "=", "1e3"):
        assert yaml.safe_load(dump({"a": text})) == {"a": text}
