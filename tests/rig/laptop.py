"""Where the user of remote clusters types commands."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


class Laptop:
    """A folder and a home of its own; `laptop("status", "sweep")` is that command, typed where there is no terminal."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder, self.home = folder, home
        self.clusters = home / ".config" / "mtlcluster" / "clusters.yaml"
        self.clusters.parent.mkdir(parents=True, exist_ok=True)

    def __call__(self, *arguments: object, code: int = 0) -> str:
        """What it prints on stdout; on stderr where it is to end with another exit code."""
        done = self.run(*arguments)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout if code == 0 else done.stderr

    def run(self, *arguments: object) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "mtlcluster", *map(str, arguments)]
        environment = {**os.environ, "HOME": str(self.home)}
        return subprocess.run(
            command,
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
        )

    def describe(self, **clusters: dict[str, Any] | None) -> None:
        """Writes the cluster file: options by name, beside host and environment; None leaves that cluster out."""
        usual = {"environment": sys.prefix, "partition": "closed"}
        entries = {name: {"host": name, **usual, **more} for name, more in clusters.items() if more is not None}
        self.clusters.write_text(json.dumps(entries, indent=1))  # which is YAML, too

    def status(self, *arguments: str) -> dict[str, dict[str, Any]]:
        """The runs by their names, as `status --json` gives them."""
        return {run["run"]: run for run in json.loads(self("status", "--json", *arguments))["runs"]}
