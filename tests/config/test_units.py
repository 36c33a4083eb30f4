"""Durations and sizes mean what they mean to Slurm's commands, in every file. Zero and unlimited are refused."""

import re

import pytest

from mtlcluster.config.cluster import find_cluster
from mtlcluster.config.grid import read_grid
from mtlcluster.config.units import seconds
from mtlcluster.errors import UserError
from mtlcluster.launch.dry_run import preview
from mtlcluster.launch.packing import megabytes, minutes

TIMES = ["30", "1:30", "90:90", "5:0", "0:59", "0:1", "1:2:3", "0:0:1", "100:00:00", "1-2", "0-5", "1-2:3", "1-12:30",
         "1-2:3:4", "1-30:70:80", "010", "08", "007:08", "9999-0"]  # fmt: skip
SIZES = ["500", "500M", "500m", "2G", "2g", "1T", "100K", "1K", "1025K", "500MB", "2GB", "010M", "0500"]
WITHOUT_END = ["0", "0:0", "0-0", "0-0:0:0", "00:00:00", "-1", "UNLIMITED", "infinite", "0s", "0h", "9999999999",
               "4294967295", "3000000-0", "999999999d"]  # fmt: skip
NONSENSE = ["", "1:2:3:4", "1-2:3:4:5", ":5", "5:", "1-:5", "1-2:", "1.5", "5x", "1 h", "+5", "0x10", "٣", "1h-2"]


def in_minutes(said):
    days, hours, minute, second = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d+):(\d+)", said).groups()
    return int(days or 0) * 1440 + int(hours) * 60 + int(minute) + bool(int(second))


def in_megabytes(said):
    number, unit = re.fullmatch(r"([\d.]+)([MGT])", said).groups()
    return float(number) * {"M": 1, "G": 1024, "T": 1024**2}[unit]


@pytest.fixture
def understood(slurm):
    """How Slurm understands an option of sbatch: shown by a job that never starts."""

    def ask(option, field):
        job = slurm.ask("sbatch", "--parsable", "--hold", "--partition=main", option, "--wrap", "true")
        return re.search(rf"{field}=(\S+)", slurm.ask("scontrol", "show", "job", job))[1]

    return ask


def test_we_read_what_slurm_reads(understood):
    assert {t: minutes(t) for t in TIMES} == {t: in_minutes(understood(f"--time={t}", "TimeLimit")) for t in TIMES}
    sizes = {m: in_megabytes(understood(f"--mem={m}", "MinMemoryNode")) for m in SIZES}
    assert {m: megabytes(m) for m in SIZES} == sizes


def test_units_that_slurm_does_not_know():
    assert [seconds(t) for t in ("90s", "1h30m", "1.5h", "2d", "0.5s")] == [90, 5400, 5400, 172800, 0.5]
    assert [megabytes(m) for m in ("1.5G", "500MiB", 4000)] == [1536, 500, 4000]


@pytest.mark.parametrize("key", ["resources: {time", "set: {checkpoint_every", "set: {resources.time"])
def test_in_a_grid(project, key):
    path = project / "g.yaml"

    def read(value):
        path.write_text(f"name: g\njob: tiny\ngrid: {{seed: [1]}}\n{key}: {value}}}\n")
        [run] = read_grid(path).runs
        return seconds(run.config.checkpoint_every if "check" in key else run.config.resources.time)

    for value, expected in [("30", 1800), ("'30'", 1800), ("1:30", 90), ("1-12:30", 131400), ("2-0", 172800)]:
        assert read(value) == expected
    for value in (*WITHOUT_END, *(repr(value) for value in NONSENSE), "1.5", "[1]", "true", "1e3", ".inf", "{}"):
        with pytest.raises(UserError, match=r"g\.yaml:4: .*(time|checkpoint_every) should be") as told:
            read(value)
        assert "\n" not in str(told.value)


def test_memory_and_limits(slurm, project, make_grid):
    (project / "clusters.yaml").write_text("lab:\n  limits: {time: 1-12, memory: 4000}\n")
    ask = {"grid": {"seed": {"range": 3}}, "cluster": "lab", "runs_per_job": 3}
    script = preview(make_grid(**ask, resources={"time": "0-12", "memory": 4000}), project / "runs", None)
    assert "#SBATCH --time=2160\n" in script
    assert "#SBATCH --mem=4000M\n" in script
    with pytest.raises(UserError, match=r"time 3 × 0-12:1, limits\.time is 1-12 .*; memory 4001, limits\.memory is "):
        preview(make_grid(**ask, resources={"time": "0-12:1", "memory": 4001}), project / "runs", None)
    for value in ("0", "0G", "0.0M", "1P", "5 G", "-1", "1Gx", "1.5", ".inf", "''"):
        for text in (f"lab: {{limits: {{memory: {value}}}}}\n", f"\nlab:\n  limits:\n    memory: {value}\n"):
            (project / "clusters.yaml").write_text(text)
            line = len(text.splitlines())
            with pytest.raises(UserError, match=rf"clusters\.yaml:{line}: limits\.memory should be"):
                find_cluster("lab", project)
