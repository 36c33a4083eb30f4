"""Options and types of argument that several verbs share."""

import os
import shlex
from pathlib import Path
from typing import Any, Literal

import click

from mtlcluster.errors import UserError

DEFAULT_RUNS = "runs"


class UserPath(click.Path):
    """A path. Its `~` is expanded here: the shell leaves it alone in --folder=~/x."""

    def __init__(self, kind: Literal["file", "folder", "any"] = "any") -> None:
        super().__init__(file_okay=kind != "folder", dir_okay=kind != "file", path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        expanded = _expanded(value)
        if not expanded:
            self.fail("expected a path, found nothing", param, ctx)
        if expanded.startswith("~"):
            self.fail(f"there is no home of {expanded.partition('/')[0]}", param, ctx)
        return super().convert(expanded, param, ctx)


def _expanded(path: str) -> str:
    return os.path.expanduser(path)  # noqa: PTH111 - Path's own raises where there is no such user


FILE, FOLDER = UserPath("file"), UserPath("folder")

runs_folder = click.option(
    "--runs",
    metavar="FOLDER",
    type=UserPath(),
    envvar="MTLCLUSTER_RUNS",
    default=DEFAULT_RUNS,
    help="The folder of the sweeps; also read from the environment variable MTLCLUSTER_RUNS.",
)
dont_ask = click.option("-y", "--yes", is_flag=True, help="Don't ask.")


def runs_option(runs: Path) -> str:
    """The option that the next command needs to find the same runs folder: " --runs FOLDER", or "" if it is the
    default.
    """
    usual = Path(_expanded(os.environ.get("MTLCLUSTER_RUNS") or DEFAULT_RUNS))
    return "" if runs == usual else f" --runs {shlex.quote(str(runs))}"


def chosen_clusters(cluster: str | None, split: str | None) -> list[str | None]:
    """The clusters that --cluster or --split names. [None]: neither does, the default is taken."""
    if split is None:
        return [cluster]
    names: list[str | None] = [name.strip() for name in split.split(",")]
    if cluster is not None or "" in names or len(set(names)) < max(2, len(names)):
        raise UserError(f"--split takes two or more clusters, such as arnold,uh, and no --cluster; found {split}")
    return names
