"""Builds a wheel of the running mtlcluster from its files, whichever way they were installed."""

import base64
import hashlib
import zipfile
from pathlib import Path

import mtlcluster
from mtlcluster.remote.this_version import installed

WHEEL = "Wheel-Version: 1.0\nGenerator: mtlcluster\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def build_wheel(folder: Path) -> Path:
    """Writes mtlcluster-<version>-py3-none-any.whl into `folder`.

    The format: https://packaging.python.org/en/latest/specifications/binary-distribution-format/

    Returns:
        The path of the wheel.

    Raises:
        ClusterError: Mtlcluster is not installed here.
    """
    known = installed()
    library = Path(mtlcluster.__file__).parent
    name = f"mtlcluster-{known.version}"
    files = {
        str(path.relative_to(library.parent)): path.read_bytes()
        for path in sorted(library.rglob("*"))
        if path.is_file() and not any(part.startswith((".", "__pycache__")) for part in path.relative_to(library).parts)
    }
    info = {
        "METADATA": known.read_text("METADATA") or known.read_text("PKG-INFO") or "",
        "WHEEL": WHEEL,
        "entry_points.txt": known.read_text("entry_points.txt") or "",
    }
    files |= {f"{name}.dist-info/{file}": text.encode() for file, text in info.items()}
    record = "".join(f"{file},sha256={_digest(content)},{len(content)}\n" for file, content in files.items())
    files[f"{name}.dist-info/RECORD"] = f"{record}{name}.dist-info/RECORD,,\n".encode()
    wheel = folder / f"{name}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for file, content in files.items():
            archive.writestr(file, content)
    return wheel


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
