"""Every weighting against its paper's equations, written down once more in numpy, slowly and on their own.

The toy: three quadratic losses of one vector x, trained by plain SGD; what a weighting learns by SGD with momentum.
"""

import io
import math
import re

import numpy as np
import pytest
import torch
from rig.methods import ALL, TASKS, make

from mtlcluster.methods.catalog import names
from mtlcluster.training.hardly_moved import hardly_moved

OPTIONS = {"static": {"weights": {"a": 0.5, "c": 2.0}}, "stch": {"mu": 0.5, "warmup": 2}}
NAMES = names("weighting")
LR, LEARN, MOMENTUM, EPOCH = 0.05, 0.02, 0.9, 25

CURVATURES = np.array([[1.0, 0.3, 0.1, 2.0], [0.5, 2.0, 0.2, 0.1], [3.0, 1.0, 1.0, 0.4]])
CENTRES = np.array([[1.0, 0, 2, -1], [-1.0, 1, 0, 0.5], [0.5, -2, 1, 1]])
SCALES, LEAST = np.array([1.0, 0.2, 5.0]), np.array([0.05, 0.3, 1.0])


def every_task(step):
    return [0, 1, 2]


def some_tasks(step):
    """Subsets, one task alone, and a whole epoch (the second) without task 1."""
    active = [[0, 1, 2], [1, 2], [0, 2], [2], [0, 1]][step % 5]
    return [i for i in active if i != 1] if step // EPOCH == 1 else active


def weighting_of(name, **options):
    built = make({"weighting": {"name": name, **OPTIONS.get(name, {}), **options}})[1]
    return built.double()  # so that only the formulas can differ


class Training:
    """The training loop's part: one weighting on the toy, its tasks in the order `order`."""

    def __init__(self, weighting, order=(0, 1, 2)):
        self.weighting, self.order = weighting, list(order)
        self.x = torch.zeros(4, dtype=torch.float64, requires_grad=True)
        learned = list(weighting.parameters())
        self.optimizer = torch.optim.SGD(learned, LEARN, momentum=MOMENTUM) if learned else None
        self.sums, self.counts, self.step = torch.zeros(3, dtype=torch.float64), torch.zeros(3), 0

    def losses(self, active):
        chosen = [self.order[i] for i in active]
        curvatures, centres, scales, least = (torch.from_numpy(v[chosen]) for v in (CURVATURES, CENTRES, SCALES, LEAST))
        return scales * (0.5 * (curvatures * (self.x - centres) ** 2).sum(1) + least)

    def one(self, active):
        index = ALL if len(active) == 3 else torch.tensor(active)
        self.weighting.begin_step()
        losses = self.losses(active)
        norms = torch.stack([torch.autograd.grad(loss, self.x, retain_graph=True)[0].norm() for loss in losses])
        losses.retain_grad()
        self.x.grad = None
        if self.optimizer:
            self.optimizer.zero_grad()
        self.weighting(losses, index).backward()
        with torch.no_grad():
            self.x -= LR * self.x.grad
            if self.optimizer:
                self.optimizer.step()
            self.weighting.observe_losses_after(losses.detach(), self.losses(active), index)
        self.weighting.observe_losses(losses.detach(), index)
        self.weighting.observe_gradients(losses.detach(), norms, index)
        self.sums[active] += losses.detach()
        self.counts[active] += 1
        self.step += 1
        if self.step % EPOCH == 0:
            self.weighting.observe_epoch(self.sums / self.counts)  # 0/0 is NaN
            self.sums, self.counts = torch.zeros(3, dtype=torch.float64), torch.zeros(3)
        return losses.grad.numpy()

    def run(self, steps, schedule=some_tasks):
        """The weights and x after each step."""
        weights = []
        for _ in range(steps):
            w = np.full(3, np.nan)
            active = schedule(self.step)
            w[active] = self.one(active)
            weights.append(np.concatenate([w, self.x.detach().numpy()]))
        return np.stack(weights)


class Reference:
    """The toy in numpy with gradients by hand; a method says its weights, and what it learns when."""

    def weights(self, losses, active):
        raise NotImplementedError

    def stepped(self, before, after, active):
        pass

    def epoch_ended(self, means):
        pass

    def run(self, steps, schedule):
        x, rows, sums, counts = np.zeros(4), [], np.zeros(3), np.zeros(3)
        for step in range(steps):
            active = schedule(step)
            before = self.losses(x)
            w = np.full(3, np.nan)
            w[active] = self.weights(before, active)
            x = x - LR * sum(w[i] * SCALES[i] * CURVATURES[i] * (x - CENTRES[i]) for i in active)
            self.stepped(before, self.losses(x), active)
            sums[active] += before[active]
            counts[active] += 1
            if (step + 1) % EPOCH == 0:
                self.epoch_ended([s / n if n else None for s, n in zip(sums, counts, strict=True)])
                sums, counts = np.zeros(3), np.zeros(3)
            rows.append(np.concatenate([w, x]))
        return np.stack(rows)

    @staticmethod
    def losses(x):
        return np.array([
            s * (sum(0.5 * k * (xj - cj) ** 2 for k, xj, cj in zip(row, x, centre, strict=True)) + least)
            for s, row, centre, least in zip(SCALES, CURVATURES, CENTRES, LEAST, strict=True)
        ])  # fmt: skip


class Learned(Reference):
    """A number s per task that goes down its own gradient, with momentum, when its task is active."""

    def __init__(self):
        self.s, self.speed, self.seen = [0.0] * 3, [0.0] * 3, [False] * 3

    def slope(self, i, loss):
        raise NotImplementedError

    def stepped(self, before, after, active):
        for i in active:
            slope = self.slope(i, before[i])
            self.speed[i] = MOMENTUM * self.speed[i] + slope if self.seen[i] else slope
            self.seen[i] = True
            self.s[i] -= LEARN * self.speed[i]


class UncertaintyReference(Learned):
    """Kendall et al.: e^{-s} L + s/2, and for the regression task (the third) e^{-s} L / 2 + s/2."""

    def factor(self, i):
        return (0.5 if i == 2 else 1.0) * math.exp(-self.s[i])

    def weights(self, losses, active):
        return [self.factor(i) for i in active]

    def slope(self, i, loss):
        return -self.factor(i) * loss + 0.5


class ImtlReference(Learned):
    """Liu et al. 2021: e^s L - s."""

    def weights(self, losses, active):
        return [math.exp(self.s[i]) for i in active]

    def slope(self, i, loss):
        return math.exp(self.s[i]) * loss - 1


class AtOwnRate(Learned):
    """The same with an own Adam: the momentum of the other tasks' numbers fades, but they stay."""

    def __init__(self):
        super().__init__()
        self.s, self.m, self.v, self.t = np.zeros(3), np.zeros(3), np.zeros(3), 0

    def stepped(self, before, after, active):
        gradient = np.zeros(3)
        gradient[active] = [self.slope(i, before[i]) for i in active]
        self.t += 1
        self.m = 0.9 * self.m + 0.1 * gradient
        self.v = 0.999 * self.v + 0.001 * gradient**2
        change = 0.025 * (self.m / (1 - 0.9**self.t)) / (np.sqrt(self.v / (1 - 0.999**self.t)) + 1e-8)
        self.s[active] -= change[active]


class UncertaintyAtOwnRate(AtOwnRate, UncertaintyReference):
    pass


class ImtlAtOwnRate(AtOwnRate, ImtlReference):
    pass


class DwaReference(Reference):
    """Liu et al. 2019: w = T softmax(r / 2), r the ratio of the last two epochs' losses, 1 where there are none."""

    def __init__(self):
        self.epochs = []

    def weights(self, losses, active):
        if len(self.epochs) < 2:
            return [1.0 for _ in active]
        earlier, latest = self.epochs[-2:]
        r = [1.0 if None in (a, b) else b / a for a, b in zip(earlier, latest, strict=True)]
        whole = sum(math.exp(value / 2) for value in r)
        return [3 * math.exp(r[i] / 2) / whole for i in active]

    def epoch_ended(self, means):
        self.epochs.append(means)


class FamoReference(Reference):
    """Liu et al. 2023, algorithm 1, with the softmax's Jacobian written out and Adam (weight decay in the gradient)."""

    def __init__(self):
        self.xi, self.m, self.v, self.t = np.zeros(3), np.zeros(3), np.zeros(3), 0

    def z(self, active):
        return np.exp(self.xi[active]) / np.exp(self.xi[active]).sum()

    def weights(self, losses, active):
        z, d = self.z(active), losses[active] + 1e-8
        return (z / d) / (z / d).sum()

    def stepped(self, before, after, active):
        z = self.z(active)
        jacobian = np.array([[z[i] * ((i == j) - z[j]) for j in range(len(z))] for i in range(len(z))])
        gradient = np.zeros(3)
        gradient[active] = jacobian.T @ (np.log(before[active] + 1e-8) - np.log(after[active] + 1e-8))
        gradient += 1e-3 * self.xi
        self.t += 1
        self.m = 0.9 * self.m + 0.1 * gradient
        self.v = 0.999 * self.v + 0.001 * gradient**2
        change = 0.025 * (self.m / (1 - 0.9**self.t)) / (np.sqrt(self.v / (1 - 0.999**self.t)) + 1e-8)
        self.xi[active] -= change[active]


class StchReference(Reference):
    """Lin et al. 2024: the gradient of mu T log sum (L / nadir)^(1 / mu); mu = 0.5, the nadirs of two epochs."""

    def __init__(self):
        self.seen = [[], [], []]

    def weights(self, losses, active):
        if any(len(self.seen[i]) < 2 for i in active):
            return [1 / losses[i] for i in active]
        powers = [(losses[i] / (sum(self.seen[i][:2]) / 2)) ** (1 / 0.5) for i in active]
        return [len(active) * power / sum(powers) / losses[i] for i, power in zip(active, powers, strict=True)]

    def epoch_ended(self, means):
        for seen, mean in zip(self.seen, means, strict=True):
            if mean is not None:
                seen.append(mean)


class GeometricReference(Reference):
    def weights(self, losses, active):
        product = math.prod(losses[i] for i in active)
        return [product ** (1 / len(active)) / len(active) / losses[i] for i in active]


class ScaleInvariantReference(Reference):
    def weights(self, losses, active):
        return [1 / losses[i] for i in active]


class RandomReference(Reference):
    def __init__(self):
        self.draws = torch.Generator().manual_seed(0)

    def weights(self, losses, active):
        draw = np.exp(torch.randn(3, generator=self.draws).double().numpy())
        return draw[active] / draw[active].sum()


REFERENCES = {
    "dwa": DwaReference, "famo": FamoReference, "gls": GeometricReference, "imtl_l": ImtlAtOwnRate,
    "rlw": RandomReference, "scale_invariant": ScaleInvariantReference, "stch": StchReference,
    "uncertainty": UncertaintyAtOwnRate,
}  # fmt: skip


@pytest.mark.parametrize("schedule", [every_task, some_tasks])
@pytest.mark.parametrize("name", REFERENCES)
def test_300_steps_are_those_of_the_paper(name, schedule):
    """Weights and x at every step; 1e-8 / L is what the logarithm's guard against zero may change."""
    found, expected = Training(weighting_of(name)).run(300, schedule), REFERENCES[name]().run(300, schedule)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)
    assert np.ptp(expected[:, 3:], axis=0).min() > 0.05  # x did go somewhere


@pytest.mark.parametrize(("name", "reference"), [("uncertainty", UncertaintyReference), ("imtl_l", ImtlReference)])
def test_without_a_rate_of_their_own_the_runs_optimizer_trains_them(name, reference):
    """As it was before they had the option."""
    found = Training(weighting_of(name, lr=None)).run(300)
    np.testing.assert_allclose(found, reference().run(300, some_tasks), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["uncertainty", "imtl_l", "gradnorm", "famo"])
def test_where_the_learned_weights_hardly_differ_at_the_end_a_note_says_so(name):
    training = Training(weighting_of(name, lr=1e-4))
    training.run(100)
    [note] = hardly_moved(name, training.weighting)
    assert re.match(rf"the weighting {name} has hardly moved: .* within \d\.\d% of its start", note)
    training = Training(weighting_of(name, lr=1e-2))
    training.run(100)
    assert not hardly_moved(name, training.weighting)
    assert not hardly_moved("equal", weighting_of("equal"))


@pytest.mark.parametrize("name", NAMES)
def test_a_run_continues_bit_for_bit_from_its_state(name):
    """Saved in mid-epoch, after some of what it learns by; loaded as a checkpoint is, into a new object."""
    whole = Training(weighting_of(name))
    whole.run(88)
    file = io.BytesIO()
    kept = {
        "weighting": whole.weighting.state_dict(), "generator": whole.weighting.context.generator.get_state(),
        "x": whole.x.detach(), "sums": whole.sums, "counts": whole.counts,
        "optimizer": whole.optimizer.state_dict() if whole.optimizer else None,
    }  # fmt: skip
    torch.save(kept, file)
    expected = whole.run(60)

    file.seek(0)
    state = torch.load(file, weights_only=True)
    again = Training(weighting_of(name))
    again.step, again.x, again.sums, again.counts = 88, state["x"].requires_grad_(), state["sums"], state["counts"]
    again.weighting.load_state_dict(state["weighting"])
    again.weighting.context.generator.set_state(state["generator"])
    if again.optimizer:
        again.optimizer.load_state_dict(state["optimizer"])
    np.testing.assert_array_equal(again.run(60), expected)


@pytest.mark.parametrize("name", sorted({*NAMES} - {"rlw", "static", "uncertainty"}))
def test_permuted_tasks_have_permuted_weights(name):
    """Not where the draws are in the tasks' order, nor where a task's name or kind matters."""
    order = [2, 0, 1]
    found = Training(weighting_of(name), order).run(100, every_task)
    expected = Training(weighting_of(name)).run(100, every_task)
    np.testing.assert_allclose(found, expected[:, [*order, 3, 4, 5, 6]], rtol=1e-9, atol=1e-12)


def test_static_ones_are_equal():
    ones = weighting_of("static", weights={"a": 1.0, "b": 1.0, "c": 1.0})
    np.testing.assert_array_equal(Training(ones).run(30), Training(weighting_of("equal")).run(30))


@pytest.mark.parametrize("name", NAMES)
def test_one_task_is_plain_training_where_the_formula_says_so(name):
    """Else it has its own optimum: 1/L for the logarithms; imtl_l and uncertainty learn theirs (e^s = 1 at first)."""
    weighting = weighting_of(name, weights={}) if name == "static" else weighting_of(name)
    weighting.begin_step()
    losses = torch.tensor([4.0], dtype=torch.float64, requires_grad=True)
    weighting(losses, torch.tensor([0])).backward()
    expected = 0.25 if name in ("scale_invariant", "stch") else 1.0
    assert losses.grad.item() == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("name", ["famo", "gls", "scale_invariant"])
def test_the_scale_of_a_loss_does_not_change_the_direction(name):
    def direction(scales):
        training = Training(weighting_of(name))
        losses = training.losses([0, 1, 2]) * torch.tensor(scales, dtype=torch.float64)
        training.weighting(losses, ALL).backward()
        return torch.nn.functional.normalize(training.x.grad, dim=0)

    torch.testing.assert_close(direction([1, 1000, 0.01]), direction([1, 1, 1]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["famo", "gls", "scale_invariant", "stch"])
def test_a_loss_of_zero_has_a_finite_weight_and_a_negative_one_is_not_taken_for_a_number(name):
    weighting = weighting_of(name, warmup=1) if name == "stch" else weighting_of(name)
    for _ in range(2):
        losses = torch.tensor([0.0, 1.0, 2.0], requires_grad=True)
        weighting(losses, ALL).backward()
        assert losses.grad.isfinite().all()
        assert (losses.grad > 0).all()
        weighting.observe_losses_after(losses.detach(), torch.zeros(3), ALL)
        weighting.observe_epoch(torch.tensor([0.0, 1.0, 2.0]))
    assert weighting(torch.tensor([1.0, -1.0, 1.0]), ALL).isnan()


def test_the_loss_that_fell_least_gets_more_of_famo():
    weighting = weighting_of("famo")
    weighting.observe_losses_after(torch.tensor([1.0, 1, 1]), torch.tensor([0.5, 0.9, 0.99]), ALL)
    before = weighting.xi.clone()
    assert before[0] < 0 < before[2]
    weighting.observe_losses_after(torch.tensor([1.0, 1]), torch.tensor([math.nan, math.inf]), torch.tensor([0, 2]))
    assert weighting.xi.isfinite().all()
    assert weighting.xi[1] == before[1]


def test_rlw_draws_once_a_step_and_for_inactive_tasks_too():
    weighting, weights = weighting_of("rlw"), []
    for active in ([0, 1, 2], [1]):
        weighting.begin_step()
        weights.append(weighting(torch.ones(len(active)), torch.tensor(active)).item())
    assert weights == pytest.approx([1, 1])
    state = weighting.context.generator.get_state()
    assert weighting(torch.tensor([1.0, 2, 3]), ALL) == weighting(torch.tensor([1.0, 2, 3]), ALL)
    assert torch.equal(state, weighting.context.generator.get_state())
    two_steps = torch.Generator().manual_seed(0)
    torch.randn(3, generator=two_steps), torch.randn(3, generator=two_steps)
    assert torch.equal(state, two_steps.get_state())


@pytest.mark.parametrize("active", [ALL, [0, 2]])
@pytest.mark.parametrize("name", NAMES)
def test_a_forward_never_looks_at_a_value(name, active, monkeypatch):
    """On the meta device there are no values, so what would wait for a GPU raises. What it needs of an index tensor
    (which of its parameters) it may look up once.
    """
    weighting = weighting_of(name)
    if isinstance(active, list):
        active = torch.tensor(active)
        if name in ("imtl_l", "uncertainty"):
            weighting(torch.ones(2), active)
            monkeypatch.setattr(torch.Tensor, "tolist", None)
        else:
            active = active.to("meta")
    weighting.to("meta")
    weighting.begin_step()
    losses = torch.empty(3 if active == ALL else 2, device="meta", requires_grad=True)
    weighting(losses, active).backward()
    assert losses.grad.is_meta


def test_uncertainty_is_kendalls_loss_and_learns_its_optimum():
    """At a fixed loss L the best s is log(2L) for classification and log L for regression."""
    weighting = make({"weighting": {"name": "uncertainty", "lr": 0.05}})[1]
    losses = torch.tensor([2.0, 0.5, 8.0])
    assert weighting(losses, ALL).item() == pytest.approx(2.0 + 0.5 + 4.0)
    for _ in range(2000):
        weighting.observe_losses(losses, ALL)
    s = (-weighting.learned_weights().log()).tolist()
    assert s == pytest.approx([math.log(4.0), math.log(1.0), math.log(8.0)], abs=1e-3)


def test_dwa_follows_the_ratio_of_the_last_two_epochs():
    weighting = make({"weighting": {"name": "dwa", "temperature": 2.0}})[1]
    weighting.observe_epoch(torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64))
    assert weighting.weights.tolist() == [1, 1, 1]
    weighting.observe_epoch(torch.tensor([0.5, 2.0, float("nan")], dtype=torch.float64))
    exponentials = np.exp(np.array([0.5, 1.0, 1.0]) / 2)
    np.testing.assert_allclose(weighting.weights.numpy(), 3 * exponentials / exponentials.sum(), rtol=1e-6)


def test_static_names_its_tasks():
    weighting = make({"weighting": {"name": "static", "weights": {"c": 0.1, "a": 2.0}}})[1]
    assert weighting(torch.tensor([1.0, 10.0, 100.0]), ALL).item() == pytest.approx(2 + 10 + 10)
    assert weighting(torch.tensor([10.0, 100.0]), torch.tensor([1, 2])).item() == pytest.approx(20)
    with pytest.raises(ValueError, match=r"there is no task 'left'"):
        make({"weighting": {"name": "static", "weights": {"left": 1.0}}})


def test_gradnorm_over_hundreds_of_steps_against_the_paper():
    """Two tasks whose gradients are differentiated for real, as algorithm 1 says, with an Adam of its own."""
    torch.manual_seed(0)
    last = torch.randn(4, 3)
    targets = [torch.randn(3), 10 * torch.randn(3)]
    tasks = TASKS[1:]
    weighting = make({"weighting": {"name": "gradnorm", "alpha": 1.5, "lr": 0.025}}, tasks=tasks)[1]
    w = torch.ones(2, requires_grad=True)
    adam = torch.optim.Adam([w], lr=0.025)
    initial = None
    for step in range(300):
        layer = (last * 0.99**step).requires_grad_()
        losses = torch.stack([((layer.sum(0) - target) ** 2).mean() for target in targets])
        rows = [torch.autograd.grad(loss, layer, retain_graph=True)[0].flatten() for loss in losses]
        weighting.observe_gradients(losses.detach(), torch.stack([row.norm() for row in rows]), ALL)

        initial = losses.detach() if initial is None else initial
        norms = torch.stack([
            torch.autograd.grad(w[i] * losses[i], layer, retain_graph=True, create_graph=True)[0].norm() for i in (0, 1)
        ])  # fmt: skip
        rate = losses.detach() / initial
        goal = (norms.mean() * (rate / rate.mean()) ** 1.5).detach()
        adam.zero_grad()
        (w.grad,) = torch.autograd.grad((norms - goal).abs().sum(), w)
        adam.step()
        with torch.no_grad():
            w.mul_(2 / w.sum())
        assert weighting.weights.tolist() == pytest.approx(w.tolist(), rel=1e-4), step
        assert weighting.weights.sum().item() == pytest.approx(2, rel=1e-6)


def test_gradnorm_leaves_inactive_tasks_alone():
    weighting = make("gradnorm")[1]
    for active in ([0, 1], [0, 2], [0, 1]):
        before = weighting.weights.clone()
        index = torch.tensor(active)
        weighting.observe_gradients(torch.tensor([1.0, 2.0]), torch.tensor([5.0, 0.1]), index)
        idle = ({0, 1, 2} - set(active)).pop()
        assert weighting.weights[idle] == before[idle]
        assert weighting.weights.sum().item() == pytest.approx(3, rel=1e-6)
