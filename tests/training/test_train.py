"""`train` called from Python."""

import re

import pytest
import yaml

from mtlcluster import train
from mtlcluster.config.run import read_run_config
from mtlcluster.errors import UserError


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"method": "pcgrd"}, "unknown method 'pcgrd'; did you mean 'pcgrad'?"),
        ({"method": {"gradient": {"name": "cagrad", "c": -1}}}, "gradient 'cagrad': c should be greater than or equal"),
        ({"epoch": 3}, "unknown key 'epoch'; did you mean 'epochs'?"),
        ({"optimizer": {"lrr": 0.1}}, "unknown key 'lrr'; did you mean 'lr'?"),
        ({"optimizer": {"lr": -1}}, "optimizer.lr should be greater than 0, found -1"),
        ({"epochs": "3"}, "epochs should be a valid integer, found '3'; write 3"),
        ({"epochs": 1, "steps": 2}, "give either epochs or steps, not both"),
        ({"checkpoint_every": "soon"}, "checkpoint_every should be a duration such as 90s"),
    ],
)
def test_a_wrong_configuration_is_refused_in_the_command_lines_sentence(tmp_path, config, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}") as from_python:
        train(lambda: pytest.fail("nothing is built"), config, tmp_path / "run")
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({"job": "j", **config}))
    with pytest.raises(UserError) as from_file:
        read_run_config(tmp_path / "run.yaml")
    assert str(from_file.value).endswith(f": {from_python.value}")
    assert "\n" not in str(from_python.value)
    assert not (tmp_path / "run").exists()
