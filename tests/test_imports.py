"""Who imports whom inside mtlcluster, and what it exports."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import mtlcluster

LIBRARY = Path(mtlcluster.__file__).parent

# From the bottom up: a package or module, and what it may import. It may import only what stands above it here.
MAY_IMPORT = {
    "_entry": "",
    "_version": "",
    "csv_text": "",
    "defaults": "",
    "printable": "",
    "terminal": "",
    "errors": "printable",
    "progress": "terminal",
    "pydantic_errors": "errors",
    "python_file": "errors",
    "losses": "",
    "problem": "errors losses",
    "processes": "errors",
    "sweep": "defaults errors printable",
    # One job's side: small and quick to start, so that it can be started from any version's snapshot.
    "worker": "_entry errors processes sweep",
    # One run: torch.
    "data": "errors progress sweep",
    "methods": "defaults errors problem pydantic_errors python_file",
    "config": "defaults errors methods pydantic_errors python_file sweep",
    "training": (
        "_version config csv_text data defaults errors losses methods problem processes progress pydantic_errors sweep "
        "terminal"
    ),
    # The user's side: many runs, here and on other clusters, and what has become of them.
    "launch": "_entry config errors methods printable processes progress pydantic_errors sweep terminal worker",
    "collect": "_version config csv_text errors printable progress pydantic_errors sweep terminal",
    "remote": "_entry config errors launch printable processes progress sweep",
    # What a user meets first.
    "__init__": "_version data methods problem training",
    "command_line": "config errors launch printable remote sweep terminal",
    "cli": ("_version collect command_line config data errors launch methods processes remote terminal training"),
    "__main__": "cli",
}
EXPORTED = [
    "Active", "Callbacks", "Context", "Gradient", "MultiTaskMethod", "MultiTaskModel", "PackedFeatures", "Padded",
    "Problem", "Schedule", "StopRequested", "Task", "TensorData", "Weighting", "gradient", "pad", "schedule", "train",
    "weighting",
]  # fmt: skip


def modules() -> dict[str, Path]:
    """Every module by its name below mtlcluster, such as `launch.code.git`; `__init__` is mtlcluster itself."""
    found = {}
    for file in LIBRARY.rglob("*.py"):
        parts = file.relative_to(LIBRARY).with_suffix("").parts
        found[".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)] = file
    return found


MODULES = modules()


def imported(file: Path) -> Iterator[str]:
    """The modules of mtlcluster that a file imports, at its top, inside functions, and for type hints alone.

    `import mtlcluster` imports none: it is how a module finds the library's folder.
    """
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            top, _, below = name.partition(".")
            if top == "mtlcluster" and below:
                yield below if below in MODULES else below.rpartition(".")[0] or "__init__"


IMPORTED = {name: set(imported(file)) - {name} for name, file in MODULES.items()}


def part(module: str) -> str:
    return module.partition(".")[0]


def test_the_table_names_every_part_of_the_library_and_reads_from_the_bottom_up():
    assert {part(name) for name in MODULES} == MAY_IMPORT.keys()
    above: list[str] = []
    for name, others in MAY_IMPORT.items():
        assert others.split() == sorted(others.split())
        assert {*others.split()} <= {*above}, f"{name} stands above what it imports"
        above.append(name)


@pytest.mark.parametrize("name", MAY_IMPORT)
def test_no_module_imports_what_its_part_may_not(name):
    allowed = {name, *MAY_IMPORT[name].split()}
    wrong = [f"{m} imports {i}" for m in MODULES if part(m) == name for i in IMPORTED[m] if part(i) not in allowed]
    assert not wrong


@pytest.mark.parametrize("name", MAY_IMPORT)
def test_a_part_imports_all_that_it_may(name):
    used = {part(i) for m in MODULES if part(m) == name for i in IMPORTED[m]}
    assert {*MAY_IMPORT[name].split()} - used == set()


def test_no_circle_of_modules():
    """Also none that is broken by an import inside a function."""
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> None:
        assert module not in path, f"a circle: {' imports '.join([*path[path.index(module) :], module])}"
        if module not in done:
            for other in sorted(IMPORTED[module]):
                visit(other, [*path, module])
            done.add(module)

    for module in MODULES:
        visit(module, [])


def test_what_the_library_exports():
    assert sorted(mtlcluster.__all__) == EXPORTED
    assert [name for name in EXPORTED if not hasattr(mtlcluster, name)] == []
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        mtlcluster.nothing  # noqa: B018


WITHOUT_TORCH = ["cli", "collect.make_report", "launch.submit", "remote.dispatch", "worker.worker"]


def test_the_users_and_the_jobs_side_start_without_torch():
    imports = "".join(f"import mtlcluster.{module}; " for module in WITHOUT_TORCH)
    code = f"{imports}import sys; print(sorted(sys.modules.keys() & {{'torch', 'scipy', 'sklearn'}}))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.stdout == "[]\n", found.stderr
