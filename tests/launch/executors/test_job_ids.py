"""The output of sbatch, or of a site's own sbatch: the id of the job is found, whatever stands around it, and a
submission that succeeded is never reported as failed.
"""

import shutil

import pytest

from mtlcluster.errors import SchedulerError
from mtlcluster.launch.executors import slurm as launch
from mtlcluster.launch.executors.slurm import job_ids
from mtlcluster.launch.submit import submit

CLOSED = {"resources": {"partition": "closed"}}
SBATCH = shutil.which("sbatch")


@pytest.fixture
def site(slurm, tmp_path, monkeypatch):
    """`site(script)`: the site's own sbatch; `$real` is Slurm's."""
    programs = tmp_path / "site"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")

    def install(script):
        (programs / "sbatch").write_text(f"#!/bin/bash\nreal={SBATCH}\n{script}\n")
        (programs / "sbatch").chmod(0o755)
        return slurm

    return install


AROUND = {
    "numbers before and after": 'echo "NOTE: 42 of 100 GB used by job 7"; $real "$@"; echo "see ticket 1234"',
    "a sentence": 'echo "Welcome"; id=$($real "$@"); echo "Submitted batch job $id"',
    "a sentence with a cluster": 'id=$($real "$@"); echo "sbatch: Submitted batch job $id on cluster sandbox"',
    "its own option alone": 'for last; do :; done; echo "job 3 was a bad one"; $real "$last"',
    "id and cluster": 'id=$($real "$@"); echo "$id;sandbox"',
    "colours and carriage returns": """id=$($real "$@"); printf '\\033[32m%s\\033[0m\\r\\n' "$id" """,
    "two ids": 'echo 77777; $real "$@"',
    "another id": '$real "$@" >/dev/null; echo Hello; echo 77777',
    "no id": '$real "$@" >/dev/null; echo "thank you: 12 jobs of yours wait"',
    "nothing": '$real "$@" >/dev/null',
    "no UTF-8": """printf 'pr\\xfcfe 5 Auftr\\xe4ge\\n'; $real "$@" """,
    "an error afterwards": '$real "$@" >/dev/null; echo "Socket timed out on send/recv operation" >&2; exit 1',
    "a wall of text": 'seq -f "line %g of the rules" 5000; $real "$@"; seq -f "line %g of the rules" 5000',
}


UNCLEAR = {AROUND[name] for name in ("two ids", "another id", "no id", "nothing", "an error afterwards")}


@pytest.mark.parametrize("script", AROUND.values(), ids=AROUND.keys())
def test_a_job_is_known_whatever_stands_around_its_id(site, project, make_grid, script):
    slurm = site(script)
    found = submit(make_grid(grid={"seed": {"range": 2}}, **CLOSED), project / "runs", "slurm", print)
    assert len(found.submitted) == 2
    assert slurm.jobs().keys() == set(found.job_ids)
    [said] = [note for note in found.notes if "found in the queue" in note] or [""]
    assert bool(said) == (script in UNCLEAR)
    assert said.isprintable()


def test_what_takes_too_long_is_found_in_the_queue(site, project, make_grid, monkeypatch):
    monkeypatch.setattr(launch, "SBATCH_TIMEOUT", 1.0)
    slurm = site('$real "$@"; exec sleep 100')
    found = submit(make_grid(grid={"seed": [0]}, **CLOSED), project / "runs", "slurm", print)
    assert slurm.jobs().keys() == set(found.job_ids)


def test_several_jobs_of_one_submission_are_cancelled_and_named(site, project, make_grid):
    slurm = site('$real "$@"; $real "$@"')
    with pytest.raises(SchedulerError, match=r"several jobs of one; they were cancelled: \d+, \d+"):
        submit(make_grid(grid={"seed": [0]}, **CLOSED), project / "runs", "slurm", print)
    assert slurm.jobs() == {}
    site('$real "$@"')
    assert len(submit(make_grid(grid={"seed": [0]}, **CLOSED), project / "runs", "slurm", print).submitted) == 1


def test_a_refusal_is_one_whatever_numbers_it_has(site, project, make_grid):
    slurm = site('echo "Your quota: 5"; echo "sbatch: error: 77 hours are too many" >&2; exit 1')
    with pytest.raises(SchedulerError, match="77 hours are too many"):
        submit(make_grid(grid={"seed": [0]}, **CLOSED), project / "runs", "slurm", print)
    assert slurm.jobs() == {}


def test_what_cannot_be_known_is_settled_by_the_next_submit(site, project, make_grid, tmp_path):
    slurm = site('$real "$@" >/dev/null; echo "it is done"')
    broken = tmp_path / "site" / "squeue"
    broken.write_text("#!/bin/sh\necho 'Unable to contact slurm controller' >&2\nexit 1\n")
    broken.chmod(0o755)
    grid = make_grid(grid={"seed": [0]}, **CLOSED)
    with pytest.raises(SchedulerError, match=r"it is done.*submit again"):
        submit(grid, project / "runs", "slurm", print)
    [left] = slurm.jobs()
    broken.unlink()
    site('$real "$@"')
    again = submit(grid, project / "runs", "slurm", print)
    assert slurm.jobs().keys() == set(again.job_ids)
    assert left not in again.job_ids


@pytest.mark.parametrize(
    ("said", "ids"),
    [
        ("17", {"17"}),
        ("17;mars\n", {"17"}),
        ("Submitted batch job 17", {"17"}),
        ("Submitted batch job 17 on cluster mars-2", {"17"}),
        ("sbatch: submitted batch job 17\n", {"17"}),
        ("quota 5 of 10\n17\n", {"17"}),
        ("job 5\nSubmitted batch job 17\n", {"17"}),
        ("17\nSubmitted batch job 17\n", {"17"}),
        ("2026-01-01 12:00\n3 nodes are down\n", set()),
        ("", set()),
    ],
)
def test_only_what_is_an_id_is_read_as_one(said, ids):
    assert job_ids(said) == ids
