"""A method of one's own: read without importing it, refused where it is wrong, and the same run wherever it lies."""

import re
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from mtlcluster import MultiTaskModel, Problem, TensorData, train
from mtlcluster.cli import app
from mtlcluster.config.grid import read_grid
from mtlcluster.config.run import RunConfig, run_hash
from mtlcluster.errors import UserError
from mtlcluster.methods.base import Context, Gradient
from mtlcluster.methods.build import build_method
from mtlcluster.methods.catalog import check_method, find, method_label
from mtlcluster.problem import Task

README = Path(__file__).parents[2] / "README.md"
GRADIENT = "import torch\nfrom mtlcluster import gradient\n"
TYPED = Path(__file__).with_name("typed_methods.py")
CLASS = "@gradient\nclass Mine:\n    def weights(self, gramian, active): return torch.ones(2)\n"


@pytest.fixture
def readme(tmp_path, monkeypatch):
    """The README's own method in a folder, which is the present one."""
    [text] = re.findall(
        r"```python\n(from mtlcluster import Active, Context, Gradient\n.*?)```", README.read_text("utf-8"), re.DOTALL
    )
    assert len(text.splitlines()) <= 15
    (tmp_path / "my_method.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "my_method.py"


def context():
    tasks = [Task(name, torch.nn.functional.mse_loss, "regression") for name in ("a", "b")]
    counts = {field.name: 10 for field in fields(Context)[2:]}
    return Context(tasks, torch.Generator(), **counts)


def built(method):
    return build_method(check_method(method), context(), torch.device("cpu"))


def test_the_readmes_method_does_what_it_says(readme):
    own = built({"gradient": {"name": "my_method.py:SameLength", "every": 3}})[2]
    assert isinstance(own, Gradient)
    assert (own.at, own.every, own.context.total_steps) == ("shared", 3, 10)
    gramian = torch.diag(torch.tensor([4.0, 16.0, 0.0], dtype=torch.float64))  # lengths of 2, 4 and 0
    assert own.weights(gramian, slice(None))[:2].tolist() == pytest.approx([1.0, 0.5])
    assert built({"gradient": {"name": "my_method.py:SameLength", "share": 0.0}})[2].weights(
        gramian, slice(None)
    ).tolist() == [1.0, 1.0, 1.0]
    assert find("my_method.py:SameLength").summary.startswith("Brings the tasks' gradients")
    shown = CliRunner().invoke(app, ["methods", "my_method.py:SameLength"])
    assert shown.exit_code == 0
    assert "share: number, default 1.0" in shown.stdout
    assert "method: my_method.py:SameLength\n" in shown.stdout


def test_identity_and_label_do_not_depend_on_the_folder(readme, tmp_path):
    def identity(name, **options):
        return run_hash(RunConfig(job="j", method={"gradient": {"name": name, **options}}))

    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/my_method.py").write_text(readme.read_text())
    (tmp_path / "other.py").write_text(readme.read_text())
    here = identity("my_method.py:SameLength")
    assert here == identity("deep/my_method.py:SameLength") == identity("my_method.py:SameLength", share=1.0)
    others = {identity("other.py:SameLength"), identity("my_method.py:SameLength", share=0.5), identity("sum")}
    assert len({here, *others}) == 4
    assert method_label(check_method({"gradient": {"name": "deep/my_method.py:SameLength", "share": 0.5}})) == (
        "SameLength(share=0.5)"
    )


def test_each_slot_has_its_base_class():
    """Named as `Gradient` or as `mtlcluster.Gradient`."""
    schedule, weighting, own = built(
        {
            "schedule": f"{TYPED}:Last",
            "weighting": {"name": f"{TYPED}:Counts", "by": 2.0},
            "gradient": {"name": f"{TYPED}:Mean", "factor": None},
        }
    )
    assert schedule.active(0) == (1,)
    weighting(torch.ones(1), torch.tensor([1]))
    assert (weighting.state_dict()["seen"].tolist(), weighting.linear) == ([0.0, 2.0], False)
    assert own.direction(torch.tensor([[1.0, 2.0], [3.0, 2.0]]), slice(None)).tolist() == [2.0, 2.0]


def test_methods_of_ones_own_pass_a_strict_type_checker(readme):
    """In one process, which reads the types of torch but once."""
    command = [sys.executable, "-m", "mypy", "--strict", str(TYPED), str(readme)]
    checked = subprocess.run(command, cwd=README.parent, capture_output=True, text=True, check=False)
    assert checked.stdout.splitlines() == ["Success: no issues found in 2 source files"]


def test_each_slot_has_its_decorator_and_state_is_there_at_once(tmp_path):
    (tmp_path / "three.py").write_text("""
import torch
import mtlcluster
from mtlcluster import schedule

@schedule
class Last:
    def active(self, step):
        return (len(self.context.tasks) - 1,)

@mtlcluster.weighting
class Counts:
    linear = False
    def __init__(self, context, *, by: float):
        super().__init__(context)
        self.register_buffer("seen", torch.zeros(len(context.tasks)))
        self.by = by
    def forward(self, losses, active):
        self.seen[active] += self.by
        return losses.sum()
""")
    schedule, weighting, _ = built(
        {"schedule": f"{tmp_path}/three.py:Last", "weighting": {"name": f"{tmp_path}/three.py:Counts", "by": 2.0}}
    )
    assert schedule.active(0) == (1,)
    assert list(schedule.trained()) == [0, 1]
    weighting(torch.ones(1), torch.tensor([1]))
    assert (weighting.state_dict()["seen"].tolist(), weighting.linear) == ([0.0, 2.0], False)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (None, "there is no file .*mine.py"),
        ("class Mien: pass\n", "mine.py: defines no class 'Mine'; did you mean 'Mien'"),
        ("def (:\n", r"mine.py:1: not Python"),
        ("class Mine:\n    pass\n", "mine.py:1: class Mine should have one of the bases Schedule, Weighting, Gradient"),
        (
            "class Mine(Weighting, Gradient): ...\n",
            "mine.py:1: class Mine fills the slots weighting and gradient: write a",
        ),
        ("@gradient\nclass Mine(Other):\n    pass\n", "mine.py:2: class Mine has the base Other"),
        ("@gradient\nclass Mine:\n    def wieghts(self): ...\n", "'weights'; did you mean 'wieghts'"),
        ("@gradient\nclass Mine:\n    needs = 'jacobain'\n", "needs is 'jacobain'; did you mean 'jacobian'"),
        ("@gradient\nclass Mine:\n    needs = NEEDS\n", "mine.py:3: needs should be a plain value"),
        (CLASS + "    def __init__(self, context, c=1): ...\n", r"mine.py:4: __init__ should take self, context and"),
        (CLASS + "    def __init__(self, context, *, c: Tensor): ...\n", "option 'c': the type Tensor is not known"),
        (CLASS + "    def __init__(self, context, *, c: exit()): ...\n", r"option 'c': the type exit\(\) is not known"),
        (CLASS + "    def __init__(self, context, *, c=1 / 3): ...\n", "default of option 'c' should be a plain value"),
        (CLASS + "    def __init__(self, context, *, every: int = 2): ...\n", "option 'every' has a meaning in every"),
        (CLASS + "    def __init__(self, context, *, c: float = 1.0): ...\n", "unknown key 'b'"),
        (CLASS.replace("Mine", "sum"), "'sum' is the name of a built-in method"),
    ],
)
def test_what_cannot_be_a_method_is_refused_with_its_line(tmp_path, source, message):
    if source is not None:
        (tmp_path / "mine.py").write_text(source)
    name = "sum" if source and "class sum" in source else "Mine"
    with pytest.raises(ValueError, match=message):
        check_method({"gradient": {"name": f"{tmp_path}/mine.py:{name}", "b": 1}})


WRONG = {
    "Gradient.weights": (
        [None, [1.0, 1.0], torch.ones(1), torch.ones(2, 1)],
        r"Mine\.weights should return a tensor \[2\], a weight for each active task; found",
    ),
    "Gradient.direction": (
        [None, torch.ones(2, 15)],
        r"Mine\.direction should return a tensor \[15\], a value for each shared parameter; found",
    ),
    "Weighting.forward": (
        [None, torch.ones(2), torch.tensor(1.0)],
        r"Mine\.forward should return a scalar tensor, computed from the losses; found",
    ),
    "Schedule.active": (
        [[1, 0], [1, 1], [-1], [2], ["a"], None],
        r"Mine\.active should return ascending positions of tasks, from 0 to 1; found",
    ),
    "Schedule.shares": (
        [torch.ones(2), torch.ones(1), [0.5, 0.5], torch.tensor([1.5, -0.5])],
        r"Mine\.shares should return None or a tensor \[2\] of shares whose sum is 1; found",
    ),
}


@pytest.mark.parametrize(
    ("place", "answer", "message"),
    [
        pytest.param(place, answer, message, id=f"{place} {index}")
        for place, (answers, message) in WRONG.items()
        for index, answer in enumerate(answers)
    ],
)
def test_a_wrong_answer_of_a_method_ends_the_run_at_its_first_step(tmp_path, place, answer, message):
    base, _, function = place.partition(".")
    torch.save(answer, tmp_path / "answer.pt")
    source = f"import torch\nfrom mtlcluster import {base}\nclass Mine({base}):\n    needs = 'jacobian'\n"
    source = source if function == "direction" else source.replace("jacobian", "gramian")
    if function == "shares":
        source += "    def active(self, step): return [0, 1]\n"
    source += f"    def {function}(self, *given): return torch.load({str(tmp_path / 'answer.pt')!r})\n"
    (tmp_path / "mine.py").write_text(source)
    data = TensorData(torch.randn(4, 4), {name: torch.randn(4, 1) for name in "ab"})
    heads = {"a": torch.nn.Linear(3, 1), "b": torch.nn.Linear(3, 1)}

    def build():
        return Problem(MultiTaskModel(torch.nn.Linear(4, 3), heads), context().tasks, data, data, data)

    with pytest.raises(ValueError, match=message):
        train(build, {"method": f"{tmp_path}/mine.py:Mine", "epochs": 1, "batch_size": 4}, folder=tmp_path / "out")


@pytest.mark.parametrize("gradient", ["sum", {"name": "pcgrad", "every": 2}])
@pytest.mark.parametrize(
    ("total", "refused"), [("losses.square().sum()", True), ("losses.mean()", False), ("(3 * losses)[0]", False)]
)
def test_a_weighting_that_is_not_linear_has_to_say_so(tmp_path, gradient, total, refused):
    (tmp_path / "mine.py").write_text(
        "from mtlcluster import Weighting\nclass Mine(Weighting):\n"
        f"    def forward(self, losses, active): return {total}\n"
    )
    data = TensorData(torch.randn(8, 4), {name: torch.randn(8, 1) for name in "ab"})
    heads = {"a": torch.nn.Linear(3, 1), "b": torch.nn.Linear(3, 1)}

    def build():
        return Problem(MultiTaskModel(torch.nn.Linear(4, 3), heads), context().tasks, data, data, data)

    method = {"weighting": f"{tmp_path}/mine.py:Mine", "gradient": gradient}
    config = {"method": method, "epochs": 2, "batch_size": 2, "accumulate": 2}
    with (
        pytest.raises(ValueError, match=r"Mine\.forward is not linear in the losses: say `linear = False`")
        if refused
        else nullcontext()
    ):
        train(build, config, folder=tmp_path / "out")


def test_a_method_without_a_docstring_is_shown_without_a_gap(tmp_path):
    (tmp_path / "mine.py").write_text("from mtlcluster import gradient\n" + CLASS)
    shown = CliRunner().invoke(app, ["methods", f"{tmp_path}/mine.py:Mine"])
    assert (shown.exit_code, "\n\n\n" in shown.stdout) == (0, False)


def test_an_init_that_forgets_that_of_its_base_is_refused(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from mtlcluster import Gradient\nclass Mine(Gradient):\n"
        "    def __init__(self, context, *, share: float = 1.0): self.share = share\n"
        "    def weights(self, gramian, active): return gramian.diagonal()\n"
    )
    with pytest.raises(ValueError, match=r"'Mine': its __init__ should begin with super\(\).__init__\(context\)"):
        built(f"{tmp_path}/mine.py:Mine")


def test_an_option_is_checked_by_its_type_and_the_slot_by_the_decorator(tmp_path):
    (tmp_path / "mine.py").write_text(CLASS + "    def __init__(self, context, *, c: Fraction, d=None): ...\n")
    name = f"{tmp_path}/mine.py:Mine"
    with pytest.raises(ValueError, match="gradient 'Mine': c should be less than or equal to 1, found 2"):
        check_method({"gradient": {"name": name, "c": 2.0}})
    with pytest.raises(ValueError, match="'Mine' is a gradient, not a weighting"):
        check_method({"weighting": {"name": name, "c": 1.0}})
    assert check_method({"gradient": {"name": name, "c": 1.0, "d": [1, {"x": 2}]}})["gradient"]["d"] == [1, {"x": 2}]


def test_in_a_grid_it_is_looked_for_beside_the_file_that_names_it(project, make_grid):
    (project / "shared").mkdir()
    (project / "shared/mine.py").write_text(GRADIENT + CLASS)
    (project / "shared/base.yaml").write_text("method: mine.py:Mine\n")
    grid = make_grid(base="shared/base.yaml", grid={"seed": [0], "method.weighting": ["dwa"]})
    [run] = grid.runs
    assert grid.methods == [project / "shared/mine.py"]
    assert method_label(run.config.method) == "dwa+Mine"
    named = make_grid(grid={"method.gradient": ["shared/mine.py:Mine"]}).runs[0]
    assert named.name.startswith("gradient=Mine-")
    with pytest.raises(UserError, match=r"sweep.yaml:\d+: .*there is no file .*project/mine.py"):
        make_grid(grid={"method": ["mine.py:Mine"]})
    (project / "mine.py").write_text(GRADIENT + CLASS)
    with pytest.raises(UserError, match=r"two methods of your own are called mine.py"):
        make_grid(grid={"method": ["mine.py:Mine", "shared/mine.py:Mine"]})
    (project / "mine.py").rename(project / "yours.py")
    with pytest.raises(UserError, match=r"two methods of your own are called Mine"):
        make_grid(grid={"method": ["yours.py:Mine", "shared/mine.py:Mine"]})


def test_reading_a_grid_does_not_import_the_method(project, make_grid):
    (project / "mine.py").write_text("raise SystemExit(3)\n" + CLASS)
    path = make_grid(grid={"method": ["mine.py:Mine"]}).path
    code = (
        "import sys; from pathlib import Path; from mtlcluster.config.grid import read_grid;"
        f"read_grid(Path({str(path)!r})); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert read_grid(path).runs[0].name.startswith("Mine-")
