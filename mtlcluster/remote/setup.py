"""`mtlcluster setup`: makes or updates the environment of a cluster, with this very version of mtlcluster in it."""

import hashlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mtlcluster.config import submitted_here
from mtlcluster.config.cluster import Cluster, cluster_among, read_clusters
from mtlcluster.config.cluster_files import cluster_files, files_here
from mtlcluster.errors import ClusterError, UserError
from mtlcluster.processes.environment import OF_AN_ENVIRONMENT
from mtlcluster.progress import Say
from mtlcluster.remote.clusters import RemoteCluster, RemoteClusters
from mtlcluster.remote.shell import path_word
from mtlcluster.remote.this_version import PRINT_VERSION, dotted, is_this_version, oldest_python
from mtlcluster.remote.wheel import build_wheel

# The plain one comes first: it is what modules in the cluster's `setup:` lines provide.
PYTHONS = ["python3", "python3.13", "python3.12", "python3.11", "python3.14", "python"]
PRINT_PYTHON_VERSION = "import sys; print(*sys.version_info[:2])"
# pip installs into the environment only, whatever pip.conf and variables say. Where packages come from is left to them.
PIP_VARIABLES = (
    "unset PIP_PYTHON PIP_PREFIX PIP_ROOT PIP_TARGET; "
    "export PIP_USER=0 PIP_REQUIRE_VIRTUALENV=0 PIP_REQUIRE_HASHES=0 PIP_NO_DEPS=0 PIP_DRY_RUN=0; "
)
PIP_OPTIONS = "--disable-pip-version-check --target="

Version = tuple[int, int]


@dataclass
class Found:
    """The software that was found on a cluster.

    Attributes:
        pythons: The versions of the system's Pythons by command, the preferred one first.
        environment: The version of the environment's Python; None where there is no environment.
        install_lines: A hash of the `install:` lines that made the environment; empty for none.
        mtlcluster: The version of mtlcluster in the environment, as a hash; empty for none.
    """

    pythons: dict[str, Version]
    environment: Version | None
    install_lines: str
    mtlcluster: str


@dataclass
class Step:
    """One step of the setup. words: for the user; script: for the shell on the cluster."""

    words: str
    script: str


def set_up(name: str, say: Say) -> None:
    """Tells the user what is to be done on the cluster, does it, and checks it.

    Args:
        name: The name of the cluster.
        say: Gets lines for the user.

    Raises:
        UserError: There is no remote cluster of that name.
        ClusterError: A step failed.
    """
    cluster = _named(name)
    if not cluster.is_remote:
        raise UserError(f"cluster '{name}' has no host: it is this machine, and needs no setup")
    with RemoteClusters([cluster]) as remotes, tempfile.TemporaryDirectory() as folder:
        remote, wheel = remotes[name], build_wheel(Path(folder))
        say(f"{name} ({cluster.options.host}): looking at {cluster.environment}")
        steps = list(_steps(remote, _look(remote), path_word(f"{remote.root}/{wheel.name}")))
        for step in steps:
            say(f"  to do: {step.words}")
        if steps:
            remote.connection.run(f"mkdir -p {path_word(remote.root)}")
            remote.connection.push(wheel.parent, [wheel.name], remote.root)
        for step in steps:
            say(f"{step.words} …")
            if remote.connection.stream(step.script):
                raise ClusterError(f"{name}: this failed: {step.words}; fix it and run setup again")
        if not is_this_version(remote.call("look", sweep="")["version"]):
            raise ClusterError(
                f"{name}: another mtlcluster comes before that of {cluster.environment}; is PYTHONPATH set there?"
            )
    say(f"{name} is ready; next: mtlcluster submit GRID --cluster {name}")


def _named(name: str) -> Cluster:
    """Finds the cluster in the user's own files, then in files of this folder or its configs/.

    A file of this folder counts from then on for every command.
    """
    files = cluster_files(None)
    if name in read_clusters(files):
        return cluster_among(name, files)
    cluster = cluster_among(name, [*files, *files_here()])
    if cluster.file:
        submitted_here.remember_grids(cluster.file.path.parent)
    return cluster


def _look(remote: RemoteCluster) -> Found:
    """Finds the software on the cluster. Raises ClusterError, also if the environment's Python is too old."""
    environment, python = remote.environment, remote.python
    # venv writes `activate` last: an environment without it was not finished.
    broken = f"[ -e {environment}/pyvenv.cfg ] && [ ! -e {environment}/bin/activate ]"
    version = f'-c "{PRINT_PYTHON_VERSION}" 2>/dev/null'
    script = remote.prelude + "".join(f'echo "{name} $({name} {version})"; ' for name in PYTHONS)
    script += OF_AN_ENVIRONMENT
    script += f'{broken} || echo "environment $({python} {version})"; '
    script += f'echo "installed $(cat {environment}/mtlcluster-install 2>/dev/null)"; '
    script += f'echo "version $({python} -P -c "{PRINT_VERSION}" 2>/dev/null)"'
    printed = remote.connection.run(script).decode(errors="replace")
    lines = dict(line.partition(" ")[::2] for line in printed.splitlines())
    has = _version(lines.get("environment", ""))
    if has and has < oldest_python():
        raise ClusterError(
            f"{remote.name}: {remote.cluster.environment} has Python {dotted(has)}, and mtlcluster needs "
            f"{dotted(oldest_python())}; remove it and run setup again, or name another `environment:`"
        )
    pythons = {name: found for name in PYTHONS if (found := _version(lines.get(name, "")))}
    return Found(pythons, has, lines.get("installed", ""), lines.get("version", ""))


def _version(text: str) -> Version | None:
    parts = text.split()
    return (int(parts[0]), int(parts[1])) if len(parts) == 2 and "".join(parts).isdigit() else None


def _steps(remote: RemoteCluster, found: Found, wheel: str) -> Iterator[Step]:
    """The steps that are needed; none if all is up to date. wheel: its path on the cluster, quoted for the shell."""
    environment, install = remote.environment, remote.cluster.options.install
    if not found.environment:
        python = _preferred_python(remote, found)
        words = f"make a virtual environment with {python} ({dotted(found.pythons[python])})"
        yield Step(words, f"{remote.prelude}{python} -m venv {environment}")
    # `activate` itself is not used: only environments made by venv have it.
    activate = f"{remote.prelude}{OF_AN_ENVIRONMENT}{PIP_VARIABLES}"
    activate += f"export VIRTUAL_ENV={environment} PATH={environment}/bin:$PATH; "
    lines = hashlib.sha256("\n".join(install).encode()).hexdigest()[:12]
    if not found.environment or found.install_lines != lines:
        for number, line in enumerate(install, 1):
            done = f"echo {lines} > {environment}/mtlcluster-install" if number == len(install) else "true"
            yield Step(f"run: {line}", f"{activate}{{ {line}\n}} && {done}")
    if not is_this_version(found.mtlcluster):
        pip = f"{remote.python} -m pip install {PIP_OPTIONS}"
        words = "bring mtlcluster up to this version" if found.mtlcluster else "install mtlcluster, and what it needs"
        # First what it needs, then the version itself: if the first command breaks off, mtlcluster is still missing.
        yield Step(words, f"{activate}{pip} {wheel} && {pip} --quiet --force-reinstall --no-deps {wheel} && rm {wheel}")


def _preferred_python(remote: RemoteCluster, found: Found) -> str:
    """The command for a new environment. Raises ClusterError where all Pythons are too old."""
    oldest = oldest_python()
    for name, version in found.pythons.items():
        if version >= oldest:
            return name
    there = ", ".join(f"{name} is {dotted(version)}" for name, version in found.pythons.items()) or "there is none"
    raise ClusterError(
        f"{remote.name}: mtlcluster needs Python {dotted(oldest)} or newer, and {there}; load one under `setup:` of "
        "the cluster file, such as [module load python/3.12], or name an `environment:` that has it"
    )
