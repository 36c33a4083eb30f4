"""Makes old_sweep.tar.xz, a sweep of an earlier commit. test_old_sweep.py goes on with it under today's code.

    python tests/upgrade/make_old_sweep.py [COMMIT]

Needs git, and root for the Slurm of tests/rig/slurm_cluster.py. Takes about 90 seconds. The archive holds:

    about.json                  the commit, and the version of torch and the kind of machine that computed the values
    project/jobs/tiny.py        the job
    project/old.yaml            the grid
    project/runs/old/           the sweep; STATES lists its runs
    expected/<run>.pkl          the history of the same run when nothing stops it
    expected/predictions.csv    what `evaluate` wrote about the run that is done
"""

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
sys.path.insert(0, str(HERE.parent))
from rig.slurm_cluster import started, wait_for  # noqa: E402

LAST_BEFORE_RENAMES = "181dc13"
ARCHIVE = HERE / "old_sweep.tar.xz"
LARGEST = 300_000  # bytes of the archive
FOLDER = Path("/tmp/mtlcluster-old-sweep")  # fixed, because the sweep notes where its grid lies

# The seed of each run, by the state in which the run is left. Those that are cancelled have a checkpoint from the
# middle of an epoch. The lost one has saved nothing.
STATES = {"done": 0, "failed": 1, "cancelled": 2, "lost": 3, "cancelled on Slurm": 4}
GRID = {
    "name": "old",
    "job": "tiny",
    "set": {
        "method": {"schedule": "dsg", "weighting": "gradnorm", "gradient": "pcgrad"},
        "epochs": 5,
        "batch_size": 25,
        "data": {"noisy": True, "metrics": False},
        "model": {"slow": 0.15},
    },
    "resources": {"cpus": 1, "memory": "500M", "time": "5m"},
}
STEPS_PER_EPOCH = 6  # of 150 samples
BROKEN = {"seed": STATES["failed"], "optimizer.lr": 1e30}  # its second step is not finite
# The same kernels on every x86 processor, because the tests run on another machine.
SAME_EVERYWHERE = {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE"}


class OldVersion:
    """The command line of the old commit, with its own home and project."""

    def __init__(self, commit: str, slurm_conf: Path) -> None:
        self.library, self.project = FOLDER / "library", FOLDER / "project"
        home = FOLDER / "home"
        home.mkdir(parents=True)
        subprocess.run(
            ["git", "worktree", "add", "--quiet", "--detach", self.library, commit], cwd=REPOSITORY, check=True
        )
        (self.project / "jobs").mkdir(parents=True)
        shutil.copy(self.library / "tests/project/jobs/tiny.py", self.project / "jobs")
        of_user = ("MTLCLUSTER_", "XDG_", "SBATCH_", "SLURM_", "PYTHON")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(of_user)}
        self.environment = kept | SAME_EVERYWHERE | {
            "HOME": str(home), "TMPDIR": str(home), "PYTHONPATH": str(self.library), "SLURM_CONF": str(slurm_conf),
        }  # fmt: skip

    def __call__(self, *words: str) -> str:
        command = [sys.executable, "-m", "mtlcluster", *words]
        done = subprocess.run(command, cwd=self.project, env=self.environment, capture_output=True, text=True)
        print(f"$ mtlcluster {' '.join(words)}\n{done.stdout}{done.stderr}", flush=True)
        assert done.returncode == 0, f"exit status {done.returncode}"
        return done.stdout

    def submit(self, *points: dict[str, object], cluster: str = "local", runs: str = "runs") -> None:
        """Submits the grid with these points. Those of earlier calls come first."""
        seeds = [point["seed"] for point in points if len(point) == 1]
        more = [point for point in points if len(point) > 1]
        text = json.dumps({**GRID, "grid": {"seed": seeds}, "include": more}, indent=1)  # which is YAML, too
        (self.project / "old.yaml").write_text(f"{text}\n")
        self("submit", "old.yaml", "--cluster", cluster, "--runs", runs)

    def status(self, seed: int, runs: str = "runs") -> dict[str, object]:
        path = self.folder(seed, runs) / "status.json"
        return json.loads(path.read_text()) if path.exists() else {"state": "queued", "epoch": 0}

    def folder(self, seed: int, runs: str = "runs") -> Path:
        [folder] = (self.project / runs / "old").glob(f"*seed={seed}-*")
        return folder

    def wait(self, what: str, seeds: list[int], *states: str, epoch: int = 0, runs: str = "runs") -> None:
        def reached() -> bool:
            found = [self.status(seed, runs) for seed in seeds]
            return all(status["state"] in states and status["epoch"] >= epoch for status in found)

        wait_for(reached, what, seconds=120)


def kill_worker_and_training(status: dict[str, object]) -> None:
    """Kills them at once, so that they save nothing."""
    worker = int(str(status["job_id"]).split(":")[2])
    children = Path(f"/proc/{worker}/task/{worker}/children").read_text().split()
    for process in (worker, *map(int, children)):
        os.kill(process, signal.SIGKILL)


def make_sweep(old: OldVersion) -> None:
    done, failed, cancelled, lost, on_slurm = STATES.values()
    points = [{"seed": done}, BROKEN]
    old.submit(*points)
    old.wait("the first runs to end", [done, failed], "done", "failed")
    old("evaluate", f"seed={done}", "--out", str(FOLDER / "predictions.csv"))

    points.append({"seed": lost})
    old.submit(*points)
    old.wait("a run to train", [lost], "running")
    kill_worker_and_training(old.status(lost))
    assert not list((old.folder(lost) / "checkpoints").glob("*.sha256")), "it had saved something already"

    for seed, cluster in ((cancelled, "local"), (on_slurm, "slurm")):
        points.append({"seed": seed})
        old.submit(*points, cluster=cluster)
        old.wait("a run to train", [seed], "running", epoch=1)
        old("cancel", "old", f"seed={seed}", "--yes")
        old.wait("a run to stop", [seed], "cancelled")
        status = old.status(seed)
        assert status["step"] % STEPS_PER_EPOCH, f"it was stopped between two epochs: {status}"
    old("status", "old")
    for file in (old.folder(done) / "checkpoints").glob("step-*"):
        file.unlink()  # 20 KB of the archive, and nothing would go on from there
    batch = old.project / "runs/old/submissions/0004/batch.sh"
    batch.write_text(batch.read_text().replace(sys.executable, "/usr/bin/python3"))

    old.submit(*points, runs="undisturbed")
    old.wait("undisturbed runs to end", list(STATES.values()), "done", "failed", runs="undisturbed")


def pack(old: OldVersion, commit: str) -> None:
    expected = FOLDER / "expected"
    expected.mkdir()
    (FOLDER / "predictions.csv").rename(expected / "predictions.csv")
    for state, seed in STATES.items():
        if state not in ("done", "failed"):
            run = old.folder(seed, "undisturbed")
            shutil.copy(run / "history.pkl", expected / f"{run.name}.pkl")
    about = {"commit": commit, **machine()}
    (FOLDER / "about.json").write_text(f"{json.dumps(about, indent=1)}\n")
    with tarfile.open(ARCHIVE, "w:xz", preset=9) as archive:
        for name in ("about.json", "expected", "project/jobs", "project/old.yaml", "project/runs"):
            for path in sorted([FOLDER / name, *(FOLDER / name).rglob("*")]):
                if path.name != "__pycache__" and path.suffix != ".pyc":
                    archive.add(path, path.relative_to(FOLDER), recursive=False, filter=anonymous)
    size = ARCHIVE.stat().st_size
    print(f"{ARCHIVE}: {size:,} bytes")
    assert size <= LARGEST, f"more than {LARGEST:,} bytes"


def anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mtime = 0
    return member


def machine() -> dict[str, str]:
    """What must be the same for the same computation to have the same result, bit for bit."""
    return {"torch": version("torch"), "machine": platform.machine()}


def main() -> None:
    wanted = sys.argv[1] if len(sys.argv) > 1 else LAST_BEFORE_RENAMES
    ask = ["git", "rev-parse", "--verify", f"{wanted}^{{commit}}"]
    commit = subprocess.run(ask, cwd=REPOSITORY, check=True, capture_output=True, text=True).stdout.strip()
    if FOLDER.exists():
        sys.exit(f"{FOLDER} is there already; remove it")
    try:
        with started() as slurm:
            old = OldVersion(commit, slurm.conf)
            make_sweep(old)
        pack(old, commit)
    finally:
        remove = ["git", "worktree", "remove", "--force", str(FOLDER / "library")]
        subprocess.run(remove, cwd=REPOSITORY, check=False)
        shutil.rmtree(FOLDER, ignore_errors=True)


if __name__ == "__main__":
    main()
