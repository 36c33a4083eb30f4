from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def write(tmp_path):
    """Writes a grid file beside a jobs/ folder; returns its path."""
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs/tiny.py").write_text((ROOT / "tests/rig/project/jobs/tiny.py").read_text())

    def write(text, name="grid.yaml"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write
