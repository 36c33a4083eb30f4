"""The optimizer state of a head that trains later than the others."""

import numpy as np
import pytest
from rig.tiny_runs import tiny


@pytest.mark.parametrize("method", ["round_robin", "sequential"])
def test_a_head_that_comes_in_later_finds_momentum_of_its_own(method, tmp_path):
    series = tiny(tmp_path, method=method, optimizer={"name": "sgd", "lr": 0.01}, gradient_clip=1.0)["series"]
    assert np.isfinite(series["validation/mean_loss"]["value"]).all()


def test_momentum_begins_at_nothing_where_fp16_leaves_out_the_first_step(tmp_path):
    config = {"name": "sgd", "lr": 1e-4, "momentum": 0.9}
    series = tiny(tmp_path, precision="fp16", optimizer=config, epochs=6, batch_size=8)["series"]
    assert np.isnan(series["gradient_norm"]["value"][0])  # left out
    assert series["gradient_norm"]["value"][-1] < 100
