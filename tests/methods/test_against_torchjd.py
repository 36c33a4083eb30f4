"""The same directions as TorchJD's aggregators, in float64 on well-conditioned Jacobians at scale 1."""

import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from rig.methods import make_gradient

pytest.importorskip("torchjd")
pytestmark = pytest.mark.filterwarnings("ignore:You are solving a parameterized problem that is not DPP")
cvxpy = pytest.importorskip("cvxpy")

from torchjd import aggregation  # noqa: E402
from torchjd.linalg import QuadprogProjector  # noqa: E402

SEEDS = range(3)
EVERY = slice(None)


def jacobians(sizes):
    for tasks in sizes:
        for seed in SEEDS:
            rows = np.random.default_rng(seed).normal(size=(tasks, tasks + 20)) + 0.2 * (seed % 2)
            yield torch.from_numpy(rows)


def nash(tasks):
    """Its own stopping rule, a residual of 1e-3, is no parameter: it goes on until the weights rest."""
    made = aggregation.NashMTL(n_tasks=tasks, max_norm=1.0, update_weights_every=1, optim_niter=100)
    solver = made.weighting

    def rests(gtg, weights):
        now = solver.alpha_param.value
        return now is None or np.abs(now - solver.prvs_alpha_param.value).max() < 1e-9

    solver._stop_criteria = rests
    return made


def upgrad(tasks):
    return aggregation.UPGrad(projector=QuadprogProjector(norm_eps=1e-12, reg_eps=1e-12))


def mgda(tasks):
    return aggregation.MGDA(epsilon=1e-9, max_iters=2000)


UP_TO_10 = (2, 3, 5, 10)
# At ten tasks two of its solvers are no measure: Frank-Wolfe's steps for MGDA get ever shorter (errors of 3e-2 in the
# direction after 2000 of them), and the sequence of convex problems for Nash-MTL can rest far from a solution of
# Ga = 1/a, by which test_gradients.py judges. Up to five tasks both arrive.
UP_TO_5 = (2, 3, 5)


REFERENCES = [
    ("upgrad", upgrad, UP_TO_10, True),
    ("mgda", mgda, UP_TO_5, False),
    ("cagrad", lambda tasks: aggregation.CAGrad(c=0.5, norm_eps=1e-12), UP_TO_10, False),
    ({"name": "cagrad", "c": 0.9}, lambda tasks: aggregation.CAGrad(c=0.9, norm_eps=1e-12), UP_TO_10, False),
    ("imtl_g", lambda tasks: aggregation.IMTLG(), UP_TO_10, False),
    ("config", lambda tasks: aggregation.ConFIG(), UP_TO_10, False),
    ("aligned_mtl", lambda tasks: aggregation.AlignedMTL(), UP_TO_10, True),
    ("nash_mtl", nash, UP_TO_5, False),
    ({"name": "fairgrad", "alpha": 1.0}, lambda tasks: aggregation.FairGrad(1.0), UP_TO_10, False),
    ("fairgrad", lambda tasks: aggregation.FairGrad(2.0), UP_TO_10, False),
]


@pytest.mark.parametrize(
    ("gradient", "reference", "sizes", "averages"), REFERENCES, ids=[str(gradient) for gradient, *_ in REFERENCES]
)
def test_the_same_direction(gradient, reference, sizes, averages, monkeypatch):
    """averages: where TorchJD's is the mean over the tasks, ours the sum."""
    solve = cvxpy.Problem.solve

    def tightly(self, solver, **options):  # CAGrad's tolerances are no parameters of TorchJD either
        tight = dict.fromkeys(("tol_gap_abs", "tol_gap_rel", "tol_feas"), 1e-11) if solver == cvxpy.CLARABEL else {}
        return solve(self, solver, **options, **tight)

    monkeypatch.setattr(cvxpy.Problem, "solve", tightly)
    for jacobian in jacobians(sizes):
        tasks = len(jacobian)
        expected = reference(tasks)(jacobian) * (tasks if averages else 1)
        found = make_gradient(gradient, tasks).weights(jacobian @ jacobian.T, EVERY) @ jacobian
        assert (found - expected).norm() <= 1e-4 * expected.norm(), tasks


def test_pcgrad_over_the_same_orders():
    for jacobian in jacobians(UP_TO_5):
        torch.manual_seed(3)
        expected = aggregation.PCGrad()(jacobian)
        found = make_gradient("pcgrad", len(jacobian), seed=3).weights(jacobian @ jacobian.T, EVERY) @ jacobian
        torch.testing.assert_close(found, expected)


def test_gradvac_over_thirty_steps_in_the_same_order(monkeypatch):
    """The two draw different numbers of orders: here it is always the tasks' own."""
    monkeypatch.setattr(torch, "randperm", lambda count, generator=None: torch.arange(count))
    for tasks in UP_TO_5:
        method = make_gradient({"name": "gradvac", "beta": 0.1}, tasks)
        reference = aggregation.GradVac(beta=0.1, eps=0.0)
        rng = np.random.default_rng(tasks)
        for _ in range(30):
            jacobian = torch.from_numpy(rng.normal(size=(tasks, tasks + 20)) + 0.2)
            found = method.weights(jacobian @ jacobian.T, EVERY) @ jacobian
            torch.testing.assert_close(found, reference(jacobian))


@pytest.mark.parametrize("leak", [0.0, 0.3])
def test_graddrop_with_the_same_draws(leak, monkeypatch):
    for jacobian in jacobians(UP_TO_10):
        draws = torch.from_numpy(np.random.default_rng(0).uniform(size=jacobian.shape[1]))
        monkeypatch.setattr(torch, "rand", lambda *shape, _draws=draws, **where: _draws)
        expected = aggregation.GradDrop(leak=torch.full((len(jacobian),), leak))(jacobian)
        method = make_gradient({"name": "graddrop", "leak": leak}, len(jacobian))
        torch.testing.assert_close(method.direction(jacobian, EVERY), expected)


# The gradient method that passes on to TorchJD ------------------------------------------------------------------------


def passed_on(aggregator, options=None, tasks=4):
    return make_gradient({"name": "torchjd", "aggregator": aggregator, "options": options}, tasks)


def test_any_aggregator_by_its_name_with_options():
    jacobian = next(jacobians([5])).float()
    for aggregator, options, expected in [
        ("Mean", None, aggregation.Mean()),
        ("Krum", {"n_byzantine": 1, "n_selected": 2}, aggregation.Krum(n_byzantine=1, n_selected=2)),
        ("UPGrad", {"pref_vector": [1, 0.5, 2, 0, 1]}, aggregation.UPGrad(torch.tensor([1, 0.5, 2, 0, 1]))),
        ("NashMTL", {"n_tasks": 5, "max_norm": 1.0, "update_weights_every": 1, "optim_niter": 20},
         aggregation.NashMTL(n_tasks=5, max_norm=1.0, update_weights_every=1, optim_niter=20)),
    ]:  # fmt: skip
        found = passed_on(aggregator, options, tasks=5).direction(jacobian, EVERY)
        assert torch.equal(found, expected(jacobian)), aggregator


@pytest.mark.parametrize(
    ("aggregator", "options", "message"),
    [
        ("Krumm", None, "TorchJD has no aggregator 'Krumm'; did you mean 'Krum'"),
        ("KrumWeighting", None, "TorchJD has no aggregator 'KrumWeighting'"),
        ("WeightedAggregator", None, "TorchJD has no aggregator 'WeightedAggregator'"),
        ("Krum", {"n_byzantin": 1}, "Krum has no option 'n_byzantin'; did you mean 'n_byzantine'"),
        ("Krum", None, "Krum: .*n_byzantine"),
        ("Krum", {"n_byzantine": -1}, "Krum: n_byzantine must be"),
        ("UPGrad", {"pref_vector": ["a"]}, "UPGrad: "),
    ],
)
def test_a_wrong_name_or_option_is_refused_as_soon_as_it_is_built(aggregator, options, message):
    with pytest.raises(ValueError, match=f"gradient 'torchjd': {message}"):
        passed_on(aggregator, options)


def test_without_torchjd_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchjd", None)
    with pytest.raises(ValueError, match=r"TorchJD is not installed: pip install 'mtlcluster\[torchjd\]'"):
        passed_on("Mean")


def test_without_its_solver_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr("torchjd._mixins.find_spec", lambda name: None if name == "quadprog" else find_spec(name))
    with pytest.raises(ValueError, match=r"quadprog.*, or pip install 'mtlcluster\[torchjd\]'"):
        passed_on("UPGrad")


def test_what_draws_at_random_draws_alike_on_all_ranks():
    """Their torch generators differ, the methods' own does not; and torch's is left as it was."""
    jacobian, directions = next(jacobians([4])), []
    for seed in (0, 1):
        method = passed_on("Random")
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        directions.append(torch.stack([method.direction(jacobian, EVERY) for _ in range(2)]))
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(*directions)
    assert not torch.equal(*directions[0])


@pytest.mark.parametrize("aggregator", ["GradVac", "PCD", "ExcessMTL"])
def test_what_keeps_a_state_goes_on_exactly_after_a_checkpoint(aggregator, tmp_path):
    batches = [next(jacobians([4])) + step for step in torch.linspace(-1, 1, 6)]

    def go_on(method, part):
        method.context.generator.manual_seed(0)
        return torch.stack([method.direction(jacobian, EVERY) for jacobian in part])

    whole = passed_on(aggregator)
    go_on(whole, batches[:3])
    torch.save(whole.state_dict(), tmp_path / "state.pt")
    resumed, fresh = passed_on(aggregator), passed_on(aggregator)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    again = resumed.state_dict()  # before its first step
    resumed.load_state_dict(again)
    expected = go_on(whole, batches[3:])
    assert torch.equal(go_on(resumed, batches[3:]), expected)
    assert not torch.equal(go_on(fresh, batches[3:]), expected)
