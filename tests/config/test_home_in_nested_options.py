"""`~` and `$SCRATCH` in options of data and model mean what they mean in a shell, at any depth; identities stay."""

import sys
from pathlib import Path

import pytest

from mtlcluster.config.run import RunConfig, run_hash
from mtlcluster.training.train import load_build

JOB = """
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

@dataclass
class Inner:
    train: Path = Path("x")

@dataclass
class Data:
    files: Any = None
    inner: Inner = field(default_factory=Inner)

def build(data: Data): return data
def plain(data): return data
def typed(data: dict[str, Any]): return data
"""
OPTIONS = {
    "flat": ("~/x.npy", "/home/me/x.npy"),
    "section": ({"train": "~/x.npy", "n": 3}, {"train": "/home/me/x.npy", "n": 3}),
    "list in a section": ({"train": ["$SCRATCH/a", "${SCRATCH}/b"]}, {"train": ["/s/a", "/s/b"]}),
    "sections in a list": ([{"a": {"b": "~"}}], [{"a": {"b": "/home/me"}}]),
    "no variable": ({"train": "$NOWHERE/x"}, {"train": "$NOWHERE/x"}),
    "no such user": ({"train": "~approximately 3"}, {"train": "~approximately 3"}),
    "in the midst": ({"train": "a~b$SCRATCH"}, {"train": "a~b$SCRATCH"}),
}  # fmt: skip


@pytest.fixture
def built(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("SCRATCH", "/s")
    monkeypatch.delenv("NOWHERE", raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "home_job.py").write_text(JOB)

    def build(name, data):
        config = RunConfig(job=f"home_job.py:{name}", data=data, epochs=1)
        return load_build(config.job, tmp_path, config)()

    yield build
    sys.modules.pop("home_job", None)


@pytest.mark.parametrize("kind", OPTIONS)
def test_they_mean_what_they_mean_in_a_shell(kind, built):
    given, expected = OPTIONS[kind]
    assert built("build", {"files": given}).files == expected
    assert built("plain", {"files": given}) == {"files": expected}
    assert built("typed", {"files": given}) == {"files": expected}


def test_they_also_do_in_sections_of_the_jobs_own_types(built):
    assert built("build", {"inner": {"train": "~/x.npy"}}).inner.train == Path("/home/me/x.npy")


def test_identities_have_not_changed():
    """So that finished runs are not trained again."""
    nested = {"files": {"train": "~/x.npy", "more": ["$S/y", {"z": "./z"}]}, "file": "~/data/x.npy", "n": 3}
    values = {"job": "jobs/a.py:build", "data": nested, "epochs": 2}
    first_defaults = RunConfig.model_validate(values, context={"defaults": 1})
    assert run_hash(first_defaults) == "2f823d119c"
    assert run_hash(RunConfig(**values)) == "5a47dc17c7"  # with the defaults of version 2
