"""Binary tasks: losses, thresholds and metrics, against scikit-learn and by hand."""

import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn import metrics as sk
from torch import nn

from mtlcluster import MultiTaskModel, Problem, Task, TensorData, train
from mtlcluster.training.binary_metrics import Gathered, best_threshold, judge

CURVES = {"roc_auc": sk.roc_auc_score, "average_precision": sk.average_precision_score}
DECIDED = {
    "accuracy": sk.accuracy_score,
    "precision": sk.precision_score,
    "recall": sk.recall_score,
    "f1": sk.f1_score,
    "f1_macro": lambda truth, said: sk.f1_score(truth, said, average="macro"),
    "f1_weighted": lambda truth, said: sk.f1_score(truth, said, average="weighted"),
}


def gathered(task: Task, logits: torch.Tensor, labels: torch.Tensor, batch: int = 7) -> Gathered:
    found = Gathered(task)
    for outputs, targets in zip(logits.split(batch), labels.split(batch), strict=True):
        found.add(outputs, targets, task.labelled(targets))
    return found


def sample(seed: int, count: int = 300, rate: float = 0.2) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits that lean towards the labels, and labels of 0 and 1."""
    generator = torch.Generator().manual_seed(seed)
    labels = (torch.rand(count, generator=generator) < rate).long()
    return torch.randn(count, generator=generator) + 1.5 * labels - 1.5, labels


@pytest.mark.parametrize("threshold", [0.5, 0.2])
def test_metrics_are_scikit_learns_at_the_tasks_threshold_and_of_labelled_samples(threshold):
    task = Task.binary("x", missing=-1, threshold=threshold)
    logits, labels = sample(0)
    labels[::5] = -1
    found = judge([gathered(task, logits, labels)], None)
    values, confusion, used = found.values, found.confusion, found.thresholds
    known = labels != -1
    truth, probability = labels[known].numpy(), torch.sigmoid(logits[known]).double().numpy()
    said = probability > threshold
    expected = {f"x/{name}": metric(truth, said) for name, metric in DECIDED.items()}
    expected |= {f"x/{name}": metric(truth, probability) for name, metric in CURVES.items()}
    assert {name: values[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    assert confusion["x"] == sk.confusion_matrix(truth, said).tolist()
    assert used == {"x": threshold}
    assert "x/threshold" not in values
    assert {task.direction(name) for name in task.metrics} == {"max"}


def test_a_head_may_give_one_logit_or_two():
    logits, labels = sample(1)
    logits = 30 * logits  # so far out that a softmax in float32 has no loss left to take a logarithm of
    pair = torch.stack([0.3 * logits, 1.3 * logits], dim=1).requires_grad_()
    plain, weighted = Task.binary("x"), Task.binary("x", class_weights=(0.5, 3.0))
    expected = F.cross_entropy(pair, labels, reduction="none")
    for outputs in (logits, logits[:, None], pair):
        assert torch.allclose(plain.decode(outputs), pair.softmax(1)[:, 1], atol=1e-6)
        assert plain.loss(outputs, labels).item() == pytest.approx(expected.mean().item(), rel=1e-5)
        by_hand = (expected * torch.tensor([0.5, 3.0])[labels]).mean()
        assert weighted.loss(outputs, labels.float()).item() == pytest.approx(by_hand.item(), rel=1e-5)
    (ours,) = torch.autograd.grad(weighted.loss(pair, labels), pair)
    (theirs,) = torch.autograd.grad(by_hand, pair)
    assert torch.allclose(ours, theirs, atol=1e-8)
    assert plain.decode(torch.tensor([-1.0, 2.0])).shape == (2,), "two samples of one logit are no pair of logits"
    with pytest.raises(ValueError, match=r"should give \[N\], \[N, 1\] or \[N, 2\], found \[4, 3\]"):
        plain.loss(torch.zeros(4, 3), torch.zeros(4))


def test_class_weights_do_not_depend_on_how_the_samples_are_cut_into_batches():
    outputs, labels = torch.randn(30, 3), torch.arange(30) // 14
    task = Task.classification("x", 3, class_weights=[0.2, 1.0, 4.0])
    by_hand = (F.cross_entropy(outputs, labels, reduction="none") * torch.tensor([0.2, 1.0, 4.0])[labels]).mean()
    assert task.loss(outputs, labels).item() == pytest.approx(by_hand.item(), rel=1e-5)
    parts = [task.loss(o, t) * len(t) for o, t in zip(outputs.split(7), labels.split(7), strict=True)]
    assert sum(parts).item() / 30 == pytest.approx(by_hand.item(), rel=1e-5)
    for weights in ([1.0, 2.0], [1.0, 0.0, 2.0], [1.0, float("nan"), 2.0]):
        with pytest.raises(ValueError, match="class_weights of task 'x' should be 3 positive numbers"):
            Task.classification("x", 3, class_weights=weights)


def test_the_threshold_is_the_one_of_the_best_f1_nearest_to_a_half():
    for seed in range(20):
        logits, labels = sample(seed, count=40)
        probabilities, truth = torch.sigmoid(logits).double().numpy().round(1), labels.numpy() > 0
        if not truth.any():
            continue
        found = best_threshold(probabilities, truth)
        every = np.arange(0, 1, 0.05)[:, None]
        best = max(sk.f1_score(truth, row, zero_division=0.0) for row in probabilities > every)
        assert sk.f1_score(truth, probabilities > found) == pytest.approx(best)
    assert best_threshold(np.array([0.1, 0.2, 0.8, 0.9]), np.array([0, 0, 1, 1]) > 0) == 0.5
    assert best_threshold(np.array([0.1, 0.2, 0.3]), np.array([0, 1, 1]) > 0) == pytest.approx(0.15)
    assert best_threshold(np.array([0.1, 0.2, 0.3]), np.array([1, 1, 1]) > 0) == pytest.approx(0.05), "all are yes"
    assert best_threshold(np.array([0.1, 0.9]), np.array([0, 0]) > 0) == 0.5
    tie = best_threshold(np.array([0.3, 0.35, 0.4, 0.7]), np.array([1, 0, 0, 1]) > 0)
    assert tie == 0.5, "0.15, 0.5 and 0.55 are of one F1"


def test_what_one_class_leaves_undefined_is_no_number_and_says_nothing():
    logits, labels = sample(2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for label, undefined in (
            (0, {"recall", "f1", "f1_macro", "roc_auc", "average_precision"}),
            (1, {"f1_macro", "roc_auc"}),
            (-1, set(DECIDED) | set(CURVES)),
        ):
            task = Task.binary("x", missing=-1)
            judged = judge([gathered(task, logits, torch.full_like(labels, label))], None)
            values, confusion = judged.values, judged.confusion
            assert {name for name in task.metrics if np.isnan(values[f"x/{name}"])} == undefined
            assert np.sum(confusion["x"]) == (300 if label >= 0 else 0)
    assert np.isnan(values["mean_f1"])
    assert np.isnan(values["exact_match"])


def test_over_all_tasks_by_hand():
    """Samples: all right; {a, b} called {a}: 1/2; nothing called {c}: 0; nothing called nothing: 1; c has no label."""
    truth = {"a": [1, 1, 0, 0, 1], "b": [0, 1, 0, 0, 1], "c": [1, 0, 0, 0, -1]}
    said = {"a": [1, 1, 0, 0, 0], "b": [0, 0, 0, 0, 1], "c": [1, 0, 1, 0, 1]}
    found = [
        gathered(Task.binary(name, missing=-1), 4.0 * torch.tensor(said[name]) - 2, torch.tensor(truth[name]), 2)
        for name in truth
    ]
    judged = judge(found, None)
    values, confusion = judged.values, judged.confusion
    assert values["exact_match"] == pytest.approx(2 / 4)
    assert values["hamming_score"] == pytest.approx((1 + 1 / 2 + 0 + 1) / 4)
    assert values["mean_f1"] == pytest.approx((2 * 2 / 5 + 2 * 1 / 3 + 2 * 1 / 3) / 3)
    assert confusion == {"a": [[2, 0], [1, 2]], "b": [[3, 0], [1, 1]], "c": [[2, 1], [0, 1]]}


def test_over_all_tasks_there_is_no_number_where_one_task_gives_none():
    logits, labels = sample(3)
    broken = logits.clone()
    broken[0] = torch.nan
    values = judge([gathered(Task.binary(n), x, labels) for n, x in (("a", logits), ("b", broken))], None).values
    assert values["a/f1"] > 0
    assert np.isnan([values["mean_f1"], values["exact_match"], values["hamming_score"]]).all()


def shifted(validation_shift: float, test_shift: float) -> Problem:
    """Two rare classes, one threshold to be chosen, and data whose probabilities are shifted from part to part."""

    def data(seed: int, shift: float) -> TensorData:
        logits, labels = sample(seed)
        inputs = torch.stack([logits + shift, torch.zeros_like(logits)], dim=1)
        return TensorData(inputs, {"tuned": labels, "fixed": labels})

    model = MultiTaskModel(nn.Identity(), {"tuned": nn.Linear(2, 1), "fixed": nn.Linear(2, 1)})
    for head in model.heads.values():
        head.weight.data, head.bias.data = torch.tensor([[1.0, 0.0]]), torch.zeros(1)
    tasks = [Task.binary("tuned", threshold=None), Task.binary("fixed")]
    return Problem(model, tasks, data(3, 0), data(4, validation_shift), data(5, test_shift))


def test_thresholds_are_chosen_on_validation_data_and_never_on_test_data(tmp_path):
    still = {"epochs": 2, "optimizer": {"lr": 1e-12}, "best": {"value": "mean_f1", "direction": "max"}}
    history = train(lambda: shifted(-2.0, 2.0), still, tmp_path)
    series, best = history["series"], history["info"]["best"]
    chosen = series["validation/tuned/threshold"]["value"]
    assert chosen[0] == pytest.approx(chosen[1], abs=1e-4)
    assert 0 < chosen[0] < 0.3
    assert best["thresholds"] == {"tuned": chosen[best["epoch"] - 1], "fixed": 0.5}
    assert best["number"] == series["validation/mean_f1"]["value"].max()
    assert series["validation/tuned/f1"]["value"][0] > series["validation/fixed/f1"]["value"][0]
    assert "test/tuned/threshold" not in series
    logits, labels = sample(5)
    said = torch.sigmoid(logits + 2.0).numpy() > best["thresholds"]["tuned"]
    assert series["test/tuned/f1"]["value"][0] == pytest.approx(sk.f1_score(labels, said), abs=1e-4)
    assert series["test/tuned/confusion"]["value"].tolist() == [sk.confusion_matrix(labels, said).tolist()]
    assert series["validation/tuned/confusion"]["value"].shape == (2, 2, 2)
