"""`mtlcluster setup` says what is missing over there, installs it, and resumes after a cut. `mtlcluster clusters` lists
the state of all clusters.

Nothing is downloaded: an `install:` line lets the new environment see the packages of this one.
"""

import pytest
from rig.connections import INSTALL, NEW, READY, ssh

from mtlcluster.remote.setup import set_up
from mtlcluster.remote.ssh import ConnectionLost

VENV, UPDATE = "make a virtual environment with python3 (3.", "bring mtlcluster up to this version"


def to_do(said: str) -> list[str]:
    return [line.partition("to do: ")[2] for line in said.splitlines() if "to do: " in line]


def states(laptop) -> dict[str, str]:
    return {line.split()[0]: line for line in laptop("clusters").splitlines()}


def test_a_new_environment_is_made_checked_and_brought_up_to_date(node, laptop, traces):
    laptop.describe(plain=NEW | {"install": [INSTALL, "echo no torch here 1>&2; false"]})
    failed = laptop.run("setup", "--cluster", "plain")
    said = failed.stdout
    assert failed.returncode == 1
    assert "mtlcluster: plain: this failed: run: echo no torch here" in failed.stderr
    assert failed.stderr.startswith("no torch here\n")
    planned = ["run: echo no torch here 1>&2; false", "install mtlcluster, and what it needs"]
    assert to_do(said)[1:] == [f"run: {INSTALL}", *planned]
    assert to_do(said)[0].startswith(VENV)
    assert said.index("to do: install mtlcluster") < said.index(f"\n{VENV}")

    laptop.describe(plain=NEW)
    said = laptop("setup", "--cluster", "plain")
    assert to_do(said) == [f"run: {INSTALL}", "install mtlcluster, and what it needs"]
    assert READY in said
    assert "ready; 0 of 0 runs" in states(laptop)["plain"]
    assert ssh("'of mine/environment/bin/mtlcluster' --version") == laptop("--version")

    [errors] = node.home.glob("of mine/environment/lib/python3*/site-packages/mtlcluster/errors.py")
    errors.write_text(errors.read_text() + "# of last week\n")
    assert "has another version of mtlcluster: mtlcluster setup --cluster plain" in states(laptop)["plain"]
    node.cut(5, "before")  # after the last step
    cut = laptop.run("setup", "--cluster", "plain")
    assert to_do(cut.stdout) == [UPDATE]
    assert (cut.returncode, cut.stderr) == (1, "mtlcluster: the connection to plain was lost\n")

    node.forget()
    said = laptop("setup", "--cluster", "plain")
    assert to_do(said) == []
    assert READY in said
    assert len(node.commands()) == 2
    assert "of last week" not in errors.read_text()
    assert [path.name for path in (node.home / "of mine").iterdir()] == ["environment"]
    assert not traces.left()


def test_cut_at_any_step_it_goes_on_from_there(node, laptop, traces, monkeypatch):
    laptop.describe(plain=NEW)
    monkeypatch.chdir(laptop.folder)

    def cut(at, when):
        node.cut(at, when)
        said = []
        with pytest.raises(ConnectionLost, match="the connection to plain was lost"):
            set_up("plain", said.append)
        return len(to_do("\n".join(said)))

    cut(1, "after")  # looking
    cut(3, "before")  # copying
    assert cut(4, "after") == 3  # making the environment
    activate = node.home / "of mine" / "environment" / "bin" / "activate"
    activate.rename(activate.with_name("written last"))  # as if venv itself had not finished
    assert cut(4, "before") == 3
    activate.with_name("written last").rename(activate)
    assert cut(4, "after") == 2  # the `install` line
    assert cut(4, "before") == 1  # installing mtlcluster
    assert not traces.left()


def test_a_python_that_is_too_old_is_told_with_what_to_do(node, laptop):
    old = node.home / "old" / "bin"
    old.mkdir(parents=True)
    for name in ("python3", "python"):
        (old / name).write_text("#!/bin/sh\necho 3 9\n")
        (old / name).chmod(0o755)
    laptop.describe(plain=NEW | {"setup": ["export PATH=$HOME/old/bin"]})
    said = laptop("setup", "--cluster", "plain", code=1)
    assert "mtlcluster needs Python 3.11 or newer, and python3 is 3.9, python is 3.9; load one under `setup:`" in said
    laptop.describe(plain={"environment": "~/old"})
    said = laptop("setup", "--cluster", "plain", code=1)
    assert "plain: ~/old has Python 3.9, and mtlcluster needs 3.11; remove it and run setup again" in said
    assert [path.name for path in node.home.iterdir()] == ["old"]


def test_where_nothing_can_be_written_it_says_so(node, laptop):
    laptop.describe(plain={"environment": "/proc/mine"})
    assert "this failed: make a virtual environment" in laptop("setup", "--cluster", "plain", code=1)
    laptop.describe(plain=NEW | {"root": "/proc/mine"})
    assert "plain: mkdir: cannot create directory ‘/proc/mine’" in laptop("setup", "--cluster", "plain", code=1)


def test_what_is_no_remote_cluster_is_refused(laptop):
    laptop.describe(arnold={}, here={"host": None})
    assert "no cluster 'arnodl'" in (said := laptop("setup", "--cluster", "arnodl", code=2))
    assert "did you mean 'arnold'?" in said
    assert "cluster 'here' has no host" in laptop("setup", "--cluster", "here", code=2)


def test_all_clusters_are_listed_whatever_one_of_them_does(start_node, laptop, traces):
    nodes = {name: start_node(name) for name in ("good", "bare", "down")}
    laptop.describe(good={}, bare={"environment": "~/none"}, down={}, here={"host": None})
    nodes["down"].stop()
    found = {name: " ".join(line.split()) for name, line in states(laptop).items()}
    assert found["local"] == "local this machine ready"
    assert found["good"] == "good good ready; 0 of 0 runs queued or running"
    assert found["bare"] == "bare bare mtlcluster is missing on bare; mtlcluster setup --cluster bare"
    assert found["down"] == "down down down does not answer (is it down?)"
    assert found["here"] == "here this machine its Slurm does not answer"
    assert not traces.left()
