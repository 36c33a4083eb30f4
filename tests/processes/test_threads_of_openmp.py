"""OMP_PROC_BIND and the like, which an environment module may set, do not reach a run.

With them all runs of a node and their data loaders would share its first core. Also, strings hash alike in all ranks.
"""

import json
import re
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("fake_child")
BINDING = {
    "OMP_PROC_BIND": "true", "OMP_PLACES": "cores", "GOMP_CPU_AFFINITY": "0",
    "KMP_AFFINITY": "granularity=fine,compact", "KMP_HW_SUBSET": "1c",
}  # fmt: skip


def test_no_rank_has_them(make_grid, submit_locally, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "6,7")
    for name, value in {**BINDING, "PYTHONHASHSEED": "random", "OMP_SCHEDULE": "static"}.items():
        monkeypatch.setenv(name, value)
    sweep = submit_locally(make_grid(grid={"data.path": ["endless"]}, resources={"gpus": 2, "cpus": 2}))
    sweep.wait("", "running")
    while len(ranks := re.findall(r"rank ({.*})\n", sweep.log())) < 2:
        time.sleep(0.05)
    for rank in ranks:
        environ = Path("/proc", str(json.loads(rank)["pid"]), "environ").read_text().split("\0")
        variables = dict(variable.partition("=")[::2] for variable in environ)
        assert not BINDING.keys() & variables.keys()
        assert (variables["PYTHONHASHSEED"], variables["OMP_SCHEDULE"]) == ("0", "static")
