"""`mtlcluster setup`: the environment that mtlcluster needs on a cluster, made or brought up to date; and how all
clusters are, for `mtlcluster clusters`.
"""

import hashlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mtlcluster.config import submitted_here
from mtlcluster.config.cluster import Cluster, cluster_among, read_clusters
from mtlcluster.config.cluster_files import LOCAL, SLURM, cluster_files, files_here, passed_over
from mtlcluster.errors import ClusterError, UserError
from mtlcluster.launch.code.snapshot import library_hash
from mtlcluster.launch.status_table import Line, Piece
from mtlcluster.processes.environment import OF_AN_ENVIRONMENT
from mtlcluster.progress import Say
from mtlcluster.remote.clusters import Fleet, Remote, Reply
from mtlcluster.remote.ssh import folder_there
from mtlcluster.remote.wheel import build_wheel

OLDEST = (3, 11)  # as setup.cfg says
# The plain one first, which is what the cluster's `setup:` lines load.
PYTHONS = ["python3", "python3.13", "python3.12", "python3.11", "python3.14", "python"]
PYTHON_VERSION = "import sys; print(*sys.version_info[:2])"
LIBRARY_VERSION = "from mtlcluster.launch.code.snapshot import library_hash; print(library_hash())"
# Into the environment and nowhere else, whatever pip.conf and variables say; where packages come from is theirs to say.
PIP_VARIABLES = (
    "unset PIP_PYTHON PIP_PREFIX PIP_ROOT PIP_TARGET; "
    "export PIP_USER=0 PIP_REQUIRE_VIRTUALENV=0 PIP_REQUIRE_HASHES=0 PIP_NO_DEPS=0 PIP_DRY_RUN=0; "
)
PIP_OPTIONS = "--disable-pip-version-check --target="


@dataclass
class Found:
    """What there is over there. pythons: by their commands, the one to take first. environment: its Python, None where
    there is none. installed: by which `install` lines it was made. version: of mtlcluster in it.
    """

    pythons: dict[str, tuple[int, int]]
    environment: tuple[int, int] | None
    installed: str
    version: str


def set_up(name: str, say: Say) -> None:
    """Says what it will do, does it, and checks it. Raises UserError for what is no remote cluster, ClusterError for
    what can't be done there.
    """
    cluster = _named(name)
    if not cluster.is_remote:
        raise UserError(f"cluster '{name}' has no host: it is where you are, and needs no setup")
    with Fleet([cluster]) as fleet, tempfile.TemporaryDirectory() as folder:
        remote, wheel = fleet[name], build_wheel(Path(folder))
        say(f"{name} ({cluster.options.host}): looking at {cluster.environment}")
        steps = list(_steps(remote, _look(remote), folder_there(f"{remote.root}/{wheel.name}")))
        for words, _ in steps:
            say(f"  to do: {words}")
        if steps:
            remote.connection.run(f"mkdir -p {folder_there(remote.root)}")
            remote.connection.push(wheel.parent, [wheel.name], remote.root)
        for words, script in steps:
            say(f"{words} …")
            if remote.connection.stream(script):
                raise ClusterError(f"{name}: this failed: {words}; mend it and call setup again")
        if remote.call("look", sweep="")["version"] != library_hash():
            raise ClusterError(
                f"{name}: another mtlcluster comes before that of {cluster.environment}; is PYTHONPATH set there?"
            )
    say(f"{name} is ready; next: mtlcluster submit GRID --cluster {name}")


def _named(name: str) -> Cluster:
    """The cluster that the user names; if no other file does, that of a file in this folder or its configs/, which
    counts from then on.
    """
    files = cluster_files(None)
    if name in read_clusters(files):
        return cluster_among(name, files)
    cluster = cluster_among(name, [*files, *files_here()])
    if cluster.file:
        submitted_here.remember_grids(cluster.file.path.parent)
    return cluster


def _look(remote: Remote) -> Found:
    """Raises ClusterError."""
    environment = folder_there(f"{remote.cluster.environment}")
    python = f"{environment}/bin/python"
    # venv writes `activate` last: without it, an environment was broken off.
    broken = f"[ -e {environment}/pyvenv.cfg ] && [ ! -e {environment}/bin/activate ]"
    script = remote.prelude + "".join(f'echo "{p} $({p} -c "{PYTHON_VERSION}" 2>/dev/null)"; ' for p in PYTHONS)
    script += OF_AN_ENVIRONMENT
    script += f'{broken} || echo "environment $({python} -c "{PYTHON_VERSION}" 2>/dev/null)"; '
    script += f'echo "installed $(cat {environment}/mtlcluster-install 2>/dev/null)"; '
    script += f'echo "version $({python} -P -c "{LIBRARY_VERSION}" 2>/dev/null)"'
    printed = remote.connection.run(script).decode(errors="replace")
    lines = dict(line.partition(" ")[::2] for line in printed.splitlines())
    has = _version(lines.get("environment", ""))
    if has and has < OLDEST:
        raise ClusterError(
            f"{remote.name}: {remote.cluster.environment} has Python {_dotted(has)}, and mtlcluster needs "
            f"{_dotted(OLDEST)}; remove it and call setup again, or name another `environment:`"
        )
    pythons = {name: version for name in PYTHONS if (version := _version(lines.get(name, "")))}
    return Found(pythons, has, lines.get("installed", ""), lines.get("version", ""))


def _version(text: str) -> tuple[int, int] | None:
    parts = text.split()
    return (int(parts[0]), int(parts[1])) if len(parts) == 2 and "".join(parts).isdigit() else None


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))


def _steps(remote: Remote, found: Found, wheel: str) -> Iterator[tuple[str, str]]:
    """What is to be done, each step in words and as a script; none where all is well. wheel: as a word of the shell."""
    install, environment = remote.cluster.options.install, folder_there(f"{remote.cluster.environment}")
    if not found.environment:
        python = _python(remote, found)
        words = f"make a virtual environment with {python} ({_dotted(found.pythons[python])})"
        yield words, f"{remote.prelude}{python} -m venv {environment}"
    # Not by `activate`, which only environments of venv have.
    activate = f"{remote.prelude}{OF_AN_ENVIRONMENT}{PIP_VARIABLES}"
    activate += f"export VIRTUAL_ENV={environment} PATH={environment}/bin:$PATH; "
    lines = hashlib.sha256("\n".join(install).encode()).hexdigest()[:12]
    if not found.environment or found.installed != lines:
        for number, line in enumerate(install, 1):
            done = f"echo {lines} > {environment}/mtlcluster-install" if number == len(install) else "true"
            yield f"run: {line}", f"{activate}{{ {line}\n}} && {done}"
    if found.version != library_hash():
        pip = f"{environment}/bin/python -m pip install {PIP_OPTIONS}"
        words = "bring mtlcluster up to this version" if found.version else "install mtlcluster, and what it needs"
        # What it needs comes first: broken off before the end, it still counts as missing.
        yield words, f"{activate}{pip} {wheel} && {pip} --quiet --force-reinstall --no-deps {wheel} && rm {wheel}"


def _python(remote: Remote, found: Found) -> str:
    """The command for a new environment. Raises ClusterError where all are too old."""
    for name, version in found.pythons.items():
        if version >= OLDEST:
            return name
    there = ", ".join(f"{name} is {_dotted(version)}" for name, version in found.pythons.items()) or "there is none"
    raise ClusterError(
        f"{remote.name}: mtlcluster needs Python {_dotted(OLDEST)} or newer, and {there}; load one under `setup:` of "
        "the cluster file, such as [module load python/3.12], or name an `environment:` that has it"
    )


def states() -> Iterator[Line]:
    """A line for each cluster: its name, where it is, and whether it is ready."""
    from mtlcluster.launch.executors import slurm

    clusters = read_clusters(cluster_files(None))
    with Fleet(clusters.values()) as fleet:
        replies = fleet.each(fleet.remotes, lambda remote: remote.call("look", sweep=""))
    answers = slurm.answers()
    here = ("ready", "green") if answers else ("its Slurm does not answer", "red")
    found = {LOCAL: ("this machine", ("ready", "green"))}
    if answers:
        found[SLURM] = ("this machine", here)
    for name, cluster in clusters.items():
        place = cluster.options.host
        found[name] = (place, _state(name, replies[name])) if place else ("this machine", here)
    names, places = (max(map(len, words)) for words in (found, [place for place, _ in found.values()]))
    for name, (place, state) in found.items():
        yield [(f"{name:{names}}", "bold"), (f"  {place:{places}}  ", ""), state]
    if words := passed_over():
        yield [(words, "dim")]
    elif not replies:
        yield [("no cluster file names another; configs/clusters.yaml.example shows how", "dim")]


def _state(name: str, reply: Reply | ClusterError) -> Piece:
    if isinstance(reply, ClusterError):
        return str(reply), "red"
    if reply["version"] != library_hash():
        return f"has another version of mtlcluster: mtlcluster setup --cluster {name}", "yellow"
    active = sum(run["state"] in ("running", "queued") for run in reply["runs"])
    return f"ready; {active:,} of {len(reply['runs']):,} runs queued or running", "green"
