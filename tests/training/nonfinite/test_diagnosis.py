"""What is no number is refused before it touches the weights, and explained."""

import os
import re
import subprocess
import sys
from typing import NamedTuple

import pytest
import torch
from rig.tiny_runs import PROJECT
from torch import nn
from torch.utils.data import Dataset

from mtlcluster import MultiTaskModel, Padded, Problem, Task, TensorData, pad
from mtlcluster.config.run import RunConfig
from mtlcluster.training.batch_check import BatchError, check_batch
from mtlcluster.training.callbacks import Callbacks
from mtlcluster.training.nonfinite.guard import NonFinite
from mtlcluster.training.resume.checkpoint import Checkpoints
from mtlcluster.training.train import prepare
from mtlcluster.training.trainer import Trainer

TASKS = [Task("funny", nn.functional.cross_entropy, "classification", classes=2)]


class Texts(Dataset):
    """Token sequences with features beside them; `broken` is done to the batch that holds clip7."""

    def __init__(self, broken=None) -> None:
        generator = torch.Generator().manual_seed(0)
        lengths = torch.randint(3, 9, (40,), generator=generator).tolist()
        self.samples = [
            ({"text": torch.randint(5, 50, (n,), generator=generator), "video": torch.randn(n, 4, generator=generator)},
             {"funny": n % 2}) for n in lengths
        ]  # fmt: skip
        self.ids = [f"clip{i}" for i in range(len(lengths))]
        self.broken = broken

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index):
        return index, self.samples[index]

    def collate(self, items):
        rows = [index for index, _ in items]
        inputs = {name: pad([sample[0][name] for _, sample in items]) for name in ("text", "video")}
        targets = {"funny": torch.tensor([sample[1]["funny"] for _, sample in items])}
        if self.broken and 7 in rows:
            self.broken(inputs, targets, rows.index(7))
        return inputs, targets


class Trunk(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 8)
        self.rnn = nn.GRU(12, 8, batch_first=True)
        self.dropout = nn.Dropout(0.5)

    def forward(self, inputs):
        text, video = inputs["text"], inputs["video"]
        hidden, _ = self.rnn(torch.cat([self.embedding(text.values), video.values], 2))
        weights = torch.softmax(hidden.sum(2).masked_fill(~text.mask, -torch.inf), 1)
        return self.dropout((weights[..., None] * hidden).sum(1))


def trainer(folder, broken=None, **settings) -> Trainer:
    data = Texts(broken)

    def build() -> Problem:
        return Problem(MultiTaskModel(Trunk(), {"funny": nn.Linear(8, 2)}), TASKS, data, Texts(), collate=data.collate)

    config = RunConfig(job="python", **{"epochs": 3, "batch_size": 4, **settings})
    return prepare(build, config, folder, Callbacks())


def test_a_batch_that_breaks_the_contract_is_named_with_sample_field_and_position():
    data = Texts()
    inputs, targets = data.collate([data[i] for i in range(5)])
    names = data.ids[:5]
    check_batch((inputs, targets), TASKS, names)
    text = inputs["text"]
    short = int(text.lengths.argmin())
    n = int(text.lengths[short])

    def broken(field="text", mask=None, values=None, target=None):
        changed = inputs[field]._replace(**{k: v for k, v in (("mask", mask), ("values", values)) if v is not None})
        with pytest.raises(BatchError) as error:
            check_batch(({**inputs, field: changed}, target or targets), TASKS, names)
        return str(error.value)

    front = text.values.clone()
    front[short] = front[short].roll(text.values.shape[1] - n)
    assert broken(values=front).startswith(f"clip{short}: text: padding (0) where the mask is one, at position 0")
    tail = text.values.clone()
    tail[short, n] = 9
    assert f"a value other than the padding (0) where the mask is zero, at position {n}" in broken(values=tail)
    empty = text.mask.clone()
    empty[2] = False
    assert broken(mask=empty) == "clip2: text: nothing is valid: its mask is all zero"
    assert "the mask should be bool, found torch.int64" in broken(mask=text.mask.long())
    assert "the mask is [5, 1]" in broken(mask=text.mask[:, :1])
    video = inputs["video"].values.clone()
    video[3, 1, 2] = torch.nan
    assert broken("video", values=video) == "clip3: video: a value that is not finite, at position 1, 2"
    edges = {**inputs, "edges": torch.tensor([0.0, torch.nan])}
    with pytest.raises(BatchError, match=r"the batch of clip0, clip1, clip2 and 2 more: edges: a value"):
        check_batch((edges, targets), TASKS, names)
    wrong = {"funny": torch.tensor([0, 1, 2, 1, 2])}
    assert "clip2, clip4: targets of 'funny': labels should be from 0 to 1, found 2" in broken(target=wrong)
    assert "found 1.5" in broken(target={"funny": torch.tensor([0, 1, 1.5, 1, 0])})


def test_the_first_batches_of_a_run_are_checked(tmp_path):
    def padding_in_front(inputs, targets, row):
        text = inputs["text"]
        short = int(text.lengths.argmin())
        text.values[short] = text.values[short].roll(1)

    with pytest.raises(BatchError, match=r"clip\d+: text: padding \(0\) where the mask is one, at position 0"):
        trainer(tmp_path, padding_in_front, batch_size=40).run()


@pytest.mark.parametrize("value", [torch.nan, torch.inf])  # a GRU saturates: its output is finite in spite of inf
def test_a_broken_sample_later_on_is_found_and_named(tmp_path, value):
    def corrupt(inputs, targets, row):
        inputs["video"].values[row, 1, 2] = value

    run = trainer(tmp_path, corrupt, seed=first_seed_with_clip7_late(), gradient_clip=None)
    with pytest.raises(NonFinite) as error:
        run.run()
    assert str(error.value).endswith("the batch is broken: clip7: video: a value that is not finite, at position 1, 2")


def first_seed_with_clip7_late() -> int:
    """A seed that puts clip7 outside the batches that are checked beforehand."""
    from mtlcluster.training.batches import epoch_batches

    return next(s for s in range(99) if all(7 not in part for part in epoch_batches(40, 4, s, 0)[:3]))


def test_an_all_zero_mask_later_on_is_named(tmp_path):
    def no_mask(inputs, targets, row):
        inputs["text"].mask[row] = False

    with pytest.raises(NonFinite, match="the batch is broken: clip7: text: nothing is valid: its mask is all zero"):
        trainer(tmp_path, no_mask, seed=first_seed_with_clip7_late()).run()


@pytest.mark.parametrize("clip", [None, 1.0])
def test_an_exploding_learning_rate_is_named(tmp_path, clip):
    def build() -> Problem:
        data = TensorData(torch.randn(64, 6), {"funny": torch.randint(2, (64,))})
        trunk = nn.Sequential(*[nn.Linear(6, 6) for _ in range(4)])
        return Problem(MultiTaskModel(trunk, {"funny": nn.Linear(6, 2)}), TASKS, data, data)

    config = RunConfig(job="python", batch_size=4, gradient_clip=clip, optimizer={"name": "adam", "lr": 1e12})
    run = prepare(build, config, tmp_path, Callbacks())
    with pytest.raises(NonFinite, match=r"the largest weight is .*e\+\d\d, in .*: try a lower learning rate"):
        run.run()
    assert all(parameter.isfinite().all() for parameter in run.model.parameters())  # it stopped before


def test_without_clipping_a_parameter_of_any_shape_is_watched(tmp_path):
    class Scaled(Trunk):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, inputs):
            return self.scale * super().forward(inputs)

    data = Texts()
    problem = Problem(MultiTaskModel(Scaled(), {"funny": nn.Linear(8, 2)}), TASKS, data, data, collate=data.collate)
    config = RunConfig(job="python", epochs=2, batch_size=4, gradient_clip=None)
    assert prepare(lambda: problem, config, tmp_path, Callbacks()).run()["info"]["finished"]


def test_weights_that_a_step_made_infinite_are_named(tmp_path):
    run = trainer(tmp_path)
    with torch.no_grad():
        run.model.trunk.rnn.weight_hh_l0[0, 0] = torch.inf
    with pytest.raises(NonFinite, match=r"the step before made trunk.rnn.weight_hh_l0 infinite: try a lower"):
        run.run()


def test_an_overflow_of_fp16_is_named(tmp_path):
    def loud(inputs, targets, row):
        inputs["video"].values.mul_(1e6)

    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 8)

        def forward(self, inputs):
            return self.linear(inputs["video"].values).sum(1)

    data = Texts(loud)

    def build() -> Problem:
        return Problem(MultiTaskModel(Sum(), {"funny": nn.Linear(8, 2)}), TASKS, data, Texts(), collate=data.collate)

    config = RunConfig(job="python", epochs=2, batch_size=4, precision="fp16")
    with pytest.raises(NonFinite, match=r"first non-finite output: trunk.linear .* fp16 holds no more than 65,504"):
        prepare(build, config, tmp_path, Callbacks()).run()


class Root(nn.Module):
    """A matrix beside a vector, in a formula whose gradient is no number for the matrix alone, from its 5th call on."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix, self.scale = nn.Parameter(torch.zeros(6, 6)), nn.Parameter(torch.ones(6))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, inputs):
        self.calls += 1
        squares = (self.matrix**2).sum()
        return torch.tanh(inputs * self.scale) + (squares.sqrt() if self.calls >= 5 else squares)


class Factor(nn.Module):
    def forward(self, inputs):
        return inputs.mean()  # no sample's: a scalar


class Factored(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.factor = nn.Linear(6, 6), Factor()

    def forward(self, inputs):
        return self.linear(inputs) * self.factor(inputs)


class Amplified(nn.Module):
    def forward(self, inputs):
        return 100 * inputs


def regression(folder, trunk, largest: float, empty: bool = False, **settings) -> Trainer:
    """A trainer of one task with the target `largest` in its fifth batch."""
    data = TensorData({"x": torch.randn(40, 6), "none": torch.zeros(40, 0 if empty else 1)}, {"value": torch.randn(40)})
    config = RunConfig(job="python", epochs=2, batch_size=8, **settings)

    class Picked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk = trunk()

        def forward(self, inputs):
            return self.trunk(inputs["x"])

    def build() -> Problem:
        from mtlcluster.training.batches import epoch_batches

        data.targets["value"][epoch_batches(40, 8, config.seed, 0)[4]] = largest
        return Problem(MultiTaskModel(Picked(), {"value": nn.Linear(6, 1)}), [Task.regression("value")], data, data)

    return prepare(build, config, folder, Callbacks())


@pytest.mark.parametrize(
    ("trunk", "largest", "words"),
    [
        (Root, 1.0, "step 5: the gradient of task 'value' is not finite, though the losses are"),
        (Factored, 1e30, "step 5: the loss of task 'value' is inf; "),
        (Amplified, 5e18, r"step 5: the gradient, .*e\+\d\d in heads.value.weight, is too large for its norm to be"),
    ],
    ids=["a matrix beside a vector", "an output without samples", "a norm beyond float32"],
)
def test_what_stops_being_finite_is_seen_and_told_from_a_broken_input(tmp_path, trunk, largest, words):
    run = regression(tmp_path, trunk, largest, gradient_clip=1.0 if trunk is Amplified else None)
    with pytest.raises(NonFinite, match=words):
        run.run()
    assert all(parameter.isfinite().all() for parameter in run.model.parameters())


def test_an_empty_input_is_finite(tmp_path):
    regression(tmp_path, nn.Identity, 1.0, empty=True).run()


class Loud(nn.Linear):
    def forward(self, inputs):
        return super().forward(inputs) * (1.0 if self.training else torch.inf)


def test_a_validation_that_is_not_finite_in_one_task_ends_the_run_whatever_decides_the_best(tmp_path):
    def build() -> Problem:
        data = TensorData(torch.randn(40, 6), {name: torch.arange(40) % 2 for name in "ab"})
        heads = {"a": nn.Linear(6, 1), "b": Loud(6, 1)}
        return Problem(MultiTaskModel(nn.Identity(), heads), [Task.binary("a"), Task.binary("b")], data, data)

    config = RunConfig(job="python", epochs=2, batch_size=8, best={"value": "a/f1", "direction": "max"})
    with pytest.raises(NonFinite, match=r"the validation's b/loss is (nan|inf) after epoch 1, with sound data"):
        prepare(build, config, tmp_path, Callbacks()).run()


@pytest.mark.parametrize("method", ["gradnorm", "pcgrad", {"schedule": "dsg", "weighting": "uncertainty"}])
def test_the_step_that_failed_is_seen_again_exactly(tmp_path, method):
    """Dropout, methods with a state, accumulation: the same losses, bit for bit, and the weights as they were."""

    def build() -> Problem:
        data = TensorData(torch.randn(64, 6), {"a": torch.randint(2, (64,)), "b": torch.randn(64)})
        data.targets["b"][50] = 1e30
        trunk = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 8))
        tasks = [Task("a", nn.functional.cross_entropy, "classification", classes=2),
                 Task("b", lambda o, t: nn.functional.mse_loss(o.flatten(), t), "regression")]  # fmt: skip
        return Problem(MultiTaskModel(trunk, {"a": nn.Linear(8, 2), "b": nn.Linear(8, 1)}), tasks, data, data)

    config = RunConfig(job="python", epochs=4, batch_size=4, accumulate=2, method=method)
    run = prepare(build, config, tmp_path, Callbacks())
    with pytest.raises(NonFinite, match=r"the loss of task .b. is inf; of sample 50;") as error:
        run.run()
    assert error.value.kept
    again = prepare(build, config, tmp_path, Callbacks())
    moment = again.failed_step()
    found = again.diagnose(moment)
    assert torch.equal(found.found.losses.nan_to_num(), moment["losses"].nan_to_num())
    assert f"step {moment['step'] + 1}: {found.sentence()}" == str(error.value)
    pairs = zip(run.model.parameters(), again.model.parameters(), strict=True)
    assert all(torch.equal(left, right) for left, right in pairs)


class Own(NamedTuple):
    """Of a job's own: what inputs may be made of."""

    values: torch.Tensor
    more: torch.Tensor | None


def test_a_finished_run_keeps_no_failure(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save_failure({"step": 1, "batches": [(Padded(torch.ones(1, 1), torch.ones(1, 1).bool()), {})]})
    assert isinstance(checkpoints.load_failure()["batches"][0][0], Padded)
    checkpoints.save_failure({"step": 1, "batches": [(Own(torch.ones(1), None), {})]})
    assert isinstance(checkpoints.load_failure()["batches"][0][0], Own)
    trainer(tmp_path).run()
    with pytest.raises(ValueError, match="no step of this run failed"):
        checkpoints.load_failure()


def test_train_replay_and_check_on_the_command_line(tmp_path):
    settings = "data: {broken: true}\nepochs: 2\nbatch_size: 8\nseed: 1\n"
    (tmp_path / "run.yaml").write_text(f"job: {PROJECT}/jobs/tiny.py:build\n{settings}")

    def call(*arguments):
        environment = {**os.environ, "PYTHONPATH": str(PROJECT.parents[2]), "COLUMNS": "120"}
        return subprocess.run([sys.executable, "-m", "mtlcluster", *arguments], cwd=tmp_path, text=True,
                              capture_output=True, env=environment)  # fmt: skip

    trained = call("train", "run.yaml")
    assert trained.returncode == 1
    assert trained.stderr.strip().endswith("To see that step again: mtlcluster replay trained/run")
    sentence = re.search(r"error: (step .*not finite, at position 0)", trained.stderr)[1]
    assert "sample 7" in sentence
    replayed = call("replay", "trained/run")
    assert replayed.returncode == 0, replayed.stderr
    assert sentence in replayed.stdout
    assert "the losses are the same as in the run, bit for bit" in replayed.stdout
    assert re.search(r"trunk.0 .* ← first", replayed.stdout)
    checked = call("check", "run.yaml")
    assert checked.returncode == 1
    assert "train: sample 7: inputs: a value that is not finite, at position 0" in checked.stdout
    assert "validation: 60 samples, all sound" in checked.stdout
