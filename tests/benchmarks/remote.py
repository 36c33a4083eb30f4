"""Remote clusters over a line with a delay of 50 ms each way (so a round trip takes 100 ms), made by a proxy:

    python tests/benchmarks/remote.py [DELAY in seconds]

- `submit` of 100 runs: remote commands and seconds. Goal: at most 8, and 5 s.
- `status` of 3 clusters with 1,000 runs each. Goal: at most 3 s.
- bringing home 1,000 new histories, against one plain rsync of the same files, in turn: the goal is at most 1.25 times
  its time. Then `collect` with nothing new: at most 2 s.

Whole processes, imports and connections included. A real sshd and a real Slurm; needs root.
"""

import compileall
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), *(str(ROOT / "tests" / part) for part in ("", "benchmarks"))]

from collect import make  # noqa: E402
from rig import (  # noqa: E402
    login_node,
    slurm_cluster,
)
from rig.login_node import LoginNode  # noqa: E402
from rig.ssh_client import SshClient  # noqa: E402

from mtlcluster.sweep import submissions  # noqa: E402
from mtlcluster.sweep.folder import Sweep  # noqa: E402
from mtlcluster.sweep.status import Status, write_status  # noqa: E402

NAMES = ("arnold", "uh", "third")
REPEATS = 5
GRID = """
name: hundred
job: digits
grid: {seed: {range: 100}}
resources: {partition: closed}
"""
FETCH = """
import sys
from pathlib import Path
from mtlcluster.remote.download import download
download(Path(sys.argv[1]), "thousand", None, print)
"""


def main(delay: float) -> None:
    if reason := slurm_cluster.missing() or login_node.missing():
        sys.exit(f"not measured: {reason}")
    compileall.compile_dir(ROOT / "mtlcluster", quiet=1)  # as pip leaves it
    with slurm_cluster.started() as slurm, tempfile.TemporaryDirectory(prefix="mtl-") as folder:
        environment = {"SLURM_CONF": str(slurm.conf), "PATH": "/usr/local/bin:/usr/bin:/bin"}
        nodes = [LoginNode(slurm.folder / name, name, environment) for name in NAMES]
        try:
            laptop, client = Path(folder), SshClient(Path(folder, "ssh"))
            os.environ |= {"PATH": f"{client.bin}:{os.environ['PATH']}", "HOME": folder, "PYTHONPATH": str(ROOT)}
            os.environ.pop("SLURM_CONF", None)
            for node in nodes:
                client.reach(node, delay)
            print(f"a delay of {delay * 1e3:.0f} ms each way")
            measure_submit(laptop, nodes)
            measure_status(laptop, nodes)
            measure_collect(laptop, nodes[0])
        finally:
            for node in nodes:
                node.stop()


def describe(laptop: Path, nodes: list[LoginNode]) -> None:
    path = laptop / ".config" / "mtlcluster" / "clusters.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({node.name: {"host": node.name, "environment": sys.prefix} for node in nodes}))


def mtlcluster(*arguments: str, code: str = "") -> float:
    """The seconds that it takes."""
    command = [sys.executable, *(["-c", code] if code else ["-m", "mtlcluster"]), *arguments]
    start = time.perf_counter()
    done = subprocess.run(command, cwd=os.environ["HOME"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return time.perf_counter() - start


def measure_submit(laptop: Path, nodes: list[LoginNode]) -> None:
    describe(laptop, nodes[:1])
    shutil.copytree(ROOT / "jobs", laptop / "jobs")
    (laptop / "hundred.yaml").write_text(GRID)
    took = []
    for number in range(REPEATS):
        nodes[0].clear()
        took.append(mtlcluster("submit", "hundred.yaml", "--cluster", "arnold", "--runs", f"runs-{number}"))
    shown = f"{statistics.median(took):.1f} s ({min(took):.1f} to {max(took):.1f})"
    print(f"submit of 100 runs: {len(nodes[0].commands())} remote commands, {shown}; goal 8 and 5 s", flush=True)
    nodes[0].clear()


def measure_status(laptop: Path, nodes: list[LoginNode]) -> None:
    describe(laptop, nodes)
    for node in nodes:
        sweep = Sweep(node.home / "mtlcluster" / "runs" / f"thousand-on-{node.name}")
        sweep.folder.mkdir(parents=True)
        sweep.grid.write_text(f"name: {sweep.name}\n")
        names = [f"pcgrad-seed={number}-{number:010x}" for number in range(1000)]
        ids = [f"77_{number}" for number in range(1000)]
        submissions.append(
            sweep.submissions, "begin", "0001", cluster=node.name, code="c0de", jobs=[[name] for name in names]
        )
        submissions.append(sweep.submissions, "end", "0001", jobs=ids)
        for name, job in zip(names, ids, strict=True):
            sweep.run(name).folder.mkdir()
            latest = {f"validation/task{task}/accuracy": 0.9 for task in range(5)}
            state = "done" if int(job[3:]) % 2 else "running"
            status = Status(state=state, submission="0001", job_id=job, host="n1", epoch=3, epochs=9, latest=latest)
            write_status(sweep.run(name).status, status)
    took = [mtlcluster("status") for _ in range(REPEATS)]
    shown = f"{statistics.median(took):.1f} s ({min(took):.1f} to {max(took):.1f})"
    print(f"status of 3 clusters with 1,000 runs each: {shown}; goal 3 s", flush=True)
    for node in nodes:
        node.clear()


def measure_collect(laptop: Path, node: LoginNode) -> None:
    describe(laptop, [node])
    make(node.home / "mtlcluster" / "runs" / "thousand", 1000)
    theirs = f"{node.name}:mtlcluster/runs/thousand/"

    def ours(target: Path) -> float:
        return mtlcluster(str(target), code=FETCH)

    def plain(target: Path) -> float:
        start = time.perf_counter()
        subprocess.run(["rsync", "-rt", theirs, str(target)], check=True, capture_output=True)
        return time.perf_counter() - start

    ways: dict[str, Callable[[Path], float]] = {"ours": ours, "plain": plain}
    took: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(REPEATS):
        for name in list(ways) if number % 2 else list(reversed(ways)):
            took[name].append(ways[name](laptop / f"{name}-{number}"))
    ratios = [a / b for a, b in zip(took["ours"], took["plain"], strict=True)]
    seconds = ", ".join(f"{name} {statistics.median(times):.1f} s" for name, times in took.items())
    shown = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    print(f"1,000 new histories: {seconds}; ratio {shown}; goal 1.25", flush=True)
    runs = str(laptop / "ours-0")
    mtlcluster("collect", "thousand", "--runs", runs)
    again = [mtlcluster("collect", "thousand", "--runs", runs) for _ in range(REPEATS)]
    print(f"collect of nothing new: {statistics.median(again):.1f} s ({min(again):.1f} to {max(again):.1f}); goal 2 s")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 0.05)
