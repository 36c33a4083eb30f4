"""`mtlcluster setup`: the environment that mtlcluster needs on a cluster, made or brought up to date; and how all
clusters are, for `mtlcluster clusters`.
"""

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mtlcluster.config.cluster import find_cluster
from mtlcluster.errors import ClusterError, UserError
from mtlcluster.launch.snapshot import library_hash
from mtlcluster.launch.view import Line
from mtlcluster.remote.connection import folder_there
from mtlcluster.remote.fleet import Fleet, Remote, fleet_of
from mtlcluster.remote.wheel import build_wheel

OLDEST = (3, 11)            # as setup.cfg says
PYTHONS = ["python3.14", "python3.13", "python3.12", "python3.11", "python3", "python"]
VERSION = "import sys; print(*sys.version_info[:2])"


@dataclass
class Found:
    """What there is over there. python: the command for a new environment, None where all are too old.

    installed: by which `install` lines the environment was made; None where there is none.
    """

    pythons: dict[str, tuple[int, int]]
    environment: tuple[int, int] | None
    installed: str | None
    version: str

    @property
    def python(self) -> str | None:
        return next((name for name, version in self.pythons.items() if version >= OLDEST), None)


def set_up(name: str, notify: Callable[[str], object]) -> None:
    """Says what it will do, does it, and checks it. Raises UserError for what is no remote cluster, ClusterError for
    what can't be done there.
    """
    cluster = find_cluster(name, None)
    if not cluster.is_remote:
        raise UserError(f"cluster '{name}' has no host: it is where you are, and needs no setup")
    with Fleet([cluster]) as fleet, tempfile.TemporaryDirectory() as folder:
        remote, wheel = fleet[name], build_wheel(Path(folder))
        notify(f"{name} ({cluster.options.host}): looking at {cluster.environment}")
        steps = list(_steps(remote, _look(remote), folder_there(f"{remote.root}/{wheel.name}")))
        if steps:
            for words, _ in steps:
                notify(f"  to do: {words}")
            remote.connection.run(f"mkdir -p {folder_there(remote.root)}")
            remote.connection.push(wheel.parent, [wheel.name], remote.root)
        for words, script in steps:
            notify(f"{words} …")
            if remote.connection.stream(script):
                raise ClusterError(f"{name}: this failed: {words}; mend it and call setup again")
        if remote.call("look", sweep="")["version"] != library_hash():
            raise ClusterError(f"{name}: {cluster.environment} still has another mtlcluster")
    notify(f"{name} is ready; next: mtlcluster submit GRID --cluster {name}")


def _look(remote: Remote) -> Found:
    """Raises ClusterError."""
    python = folder_there(f"{remote.cluster.environment}/bin/python")
    made = folder_there(f"{remote.cluster.environment}/mtlcluster-install")
    script = remote.prelude + "".join(f'echo "{p} $({p} -c "{VERSION}" 2>/dev/null)"; ' for p in PYTHONS)
    script += f'echo "environment $({python} -c "{VERSION}" 2>/dev/null)"; '
    script += f'echo "made $(cat {made} 2>/dev/null)"'
    lines = dict(line.partition(" ")[::2] for line in remote.connection.run(script).decode().splitlines())
    versions = {name: _version(lines.get(name, "")) for name in [*PYTHONS, "environment"]}
    try:
        version = remote.call("look", sweep="")["version"]
    except ClusterError:
        version = ""
    environment = versions.pop("environment")
    if environment and environment < OLDEST:
        has, oldest = (".".join(map(str, numbers)) for numbers in (environment, OLDEST))
        raise ClusterError(f"{remote.name}: {remote.cluster.environment} has Python {has}; it needs {oldest}")
    pythons = {name: version for name, version in versions.items() if version}
    return Found(pythons, environment, lines.get("made"), version)


def _version(text: str) -> tuple[int, int] | None:
    parts = text.split()
    return (int(parts[0]), int(parts[1])) if len(parts) == 2 and "".join(parts).isdigit() else None


def _steps(remote: Remote, found: Found, wheel: str) -> Iterator[tuple[str, str]]:
    """What is to be done, each step in words and as a script; none where all is well. wheel: as a word of the shell."""
    options, environment = remote.cluster.options, remote.cluster.environment
    assert environment is not None
    if not found.environment:
        python = _python(remote, found)
        yield (
            f"make a virtual environment with {python}",
            f"{remote.prelude}{python} -m venv {folder_there(environment)}",
        )
    activate = f"{remote.prelude}. {folder_there(f'{environment}/bin/activate')} && "
    wanted = hashlib.sha256("\n".join(options.install).encode()).hexdigest()[:12] if options.install else ""
    if options.install and (not found.environment or found.installed != wanted):
        for line in options.install:
            yield f"run: {line}", activate + line
        yield "note that this was done", f"echo {wanted} > {folder_there(f'{environment}/mtlcluster-install')}"
    if found.version != library_hash():
        pip = "pip install --quiet --disable-pip-version-check"
        words = "bring mtlcluster up to this version" if found.version else "install mtlcluster, and what it needs"
        yield words, f"{activate}{pip} {wheel} && {pip} --force-reinstall --no-deps {wheel} && rm {wheel}"


def _python(remote: Remote, found: Found) -> str:
    """The command for a new environment. Raises ClusterError where all are too old."""
    oldest = ".".join(map(str, OLDEST))
    if found.python is None:
        there = ", ".join(f"{name} is {a}.{b}" for name, (a, b) in found.pythons.items()) or "there is none"
        raise ClusterError(
            f"{remote.name}: mtlcluster needs Python {oldest} or newer, and {there}; load one under `setup:` of the "
            "cluster file, such as [module load python/3.12], or name an `environment:` that has it"
        )
    return found.python


def states(width: int | None) -> Iterator[Line]:
    """A line for each cluster of the cluster files: its name, its host, and whether it is ready."""
    from mtlcluster.launch import slurm

    with fleet_of([]) as fleet:
        replies = fleet.each(fleet.remotes, lambda remote: remote.call("look", sweep=""))
        yield [("local", "bold"), ("  this machine", "")]
        if slurm.answers():
            yield [("slurm", "bold"), ("  this machine's Slurm answers", "")]
        for name, reply in replies.items():
            host = fleet[name].cluster.options.host
            yield [(name, "bold"), (f"  {host}  ", ""), _state(name, reply)]
        if not replies:
            yield [("no cluster file names another; configs/clusters.yaml.example shows how", "dim")]


def _state(name: str, reply: object) -> tuple[str, str]:
    if isinstance(reply, ClusterError):
        return str(reply), "red"
    assert isinstance(reply, dict)
    if reply["version"] != library_hash():
        return f"has another version of mtlcluster: mtlcluster setup --cluster {name}", "yellow"
    active = sum(run["state"] in ("running", "queued") for run in reply["runs"])
    return f"ready; {active:,} of {len(reply['runs']):,} runs queued or running", "green"
