"""This very mtlcluster as a wheel, made of the files that are running, however they were installed."""

import base64
import hashlib
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import mtlcluster
from mtlcluster.errors import ClusterError

WHEEL = "Wheel-Version: 1.0\nGenerator: mtlcluster\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
ENTRY_POINTS = "[console_scripts]\nmtlcluster = mtlcluster.cli:main\n"


def build_wheel(folder: Path) -> Path:
    """Writes mtlcluster-<version>-py3-none-any.whl into `folder`. Raises ClusterError where it is not installed here,
    for then nobody knows what it depends on.

    The format: https://packaging.python.org/en/latest/specifications/binary-distribution-format/
    """
    try:
        installed = distribution("mtlcluster")
    except PackageNotFoundError:
        raise ClusterError("mtlcluster runs here without having been installed (pip install -e .)") from None
    library = Path(mtlcluster.__file__).parent
    name = f"mtlcluster-{installed.version}"
    described = installed.read_text("METADATA") or installed.read_text("PKG-INFO") or ""
    files = {
        str(path.relative_to(library.parent)): path.read_bytes()
        for path in sorted(library.rglob("*"))
        if path.is_file() and not any(part.startswith((".", "__pycache__")) for part in path.relative_to(library).parts)
    }
    info = {"METADATA": described, "WHEEL": WHEEL, "entry_points.txt": ENTRY_POINTS}
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
