"""What only a CUDA device can show. Deselected by default; `make test-gpu` runs them."""

import numpy as np
import pytest
import torch
from rig import dense_job
from rig.tiny_runs import METHODS, assert_same, tiny, tiny_with_stops

from mtlcluster import train

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_deterministic_resume_is_exact_on_cuda(method, precision, tmp_path):
    settings = {"method": method, "precision": precision, "deterministic": True, "accumulate": 2}
    whole = tiny(tmp_path / "whole", **settings)
    stopped, stops = tiny_with_stops(tmp_path / "stopped", 5, **settings)
    assert stops > 2
    assert_same(whole["series"], stopped["series"])


def test_compiled_gives_nearly_the_same(tmp_path):
    series = [tiny(tmp_path / str(compiled), compile=compiled)["series"] for compiled in (False, True)]
    plain, compiled = (s["validation/b/loss"]["value"] for s in series)
    assert compiled == pytest.approx(plain, abs=0.05)


def test_peak_memory_is_the_devices(tmp_path):
    assert 0 < tiny(tmp_path)["measured"]["peak_memory"]["value"][-1] < 2**30


def test_dense_tasks_train_on_cuda(tmp_path):
    series = train(dense_job.build, {**dense_job.CONFIG, "deterministic": True}, tmp_path)["series"]
    for task in dense_job.tasks():
        for name in ("train", "validation"):
            losses = series[f"{name}/{task.name}/loss"]["value"]
            assert np.isfinite(losses).all()
            assert losses[-1] < losses[0] or task.name == "whole"
