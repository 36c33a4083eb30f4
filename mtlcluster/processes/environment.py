"""The environment of a run's process, which has neither a screen nor a user in front of it.

The user may submit from a notebook, a desktop or a debugging session. The variables that are set there do not fit a
run: it would fail, wait for a keyboard, or leave out its assertions.
"""

import os
import sys

# The screen. A run may outlive it, or its machine may have none.
SCREEN = ("DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY", "SESSION_MANAGER", "WINDOWID")
# How Python behaves. What decides which packages it finds, and how it names files, stays as it was at `submit`.
INTERPRETER = (
    "PYTHONASYNCIODEBUG", "PYTHONCASEOK", "PYTHONDEBUG", "PYTHONDEVMODE", "PYTHONDUMPREFS", "PYTHONEXECUTABLE",
    "PYTHONINSPECT", "PYTHONOPTIMIZE", "PYTHONPROFILEIMPORTTIME", "PYTHONSAFEPATH", "PYTHONSTARTUP",
    "PYTHONTRACEMALLOC", "PYTHONVERBOSE", "PYTHONWARNDEFAULTENCODING", "PYTHONWARNINGS",
)  # fmt: skip
COLOUR = ("FORCE_COLOR", "CLICOLOR_FORCE", "PY_COLORS", "PYTHON_COLORS", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
LEFT_OUT = frozenset({*SCREEN, *INTERPRETER, *COLOUR})
# Without this, sets of strings have another order in each process. Classes numbered in the order of a set would have
# other numbers after each resume.
HASHES = {"PYTHONHASHSEED": "0"}
INSTEAD = {
    **HASHES,
    "MPLBACKEND": "Agg",  # a notebook's backend is a package that a run may not have
    "QT_QPA_PLATFORM": "offscreen",  # without a screen Qt aborts the process
    "SDL_VIDEODRIVER": "dummy",
    "PYTHONBREAKPOINT": "0",  # a forgotten breakpoint() would wait forever
    "PYTHONIOENCODING": "utf-8:backslashreplace",  # a log is UTF-8, whatever the terminal is
}
# The same for a batch script. It stands before the cluster's own lines, which may set such variables on purpose.
SHELL = "; ".join(
    [f"unset {' '.join(sorted(LEFT_OUT))}", *(f"export {name}={value}" for name, value in INSTEAD.items())]
)
# Before Python in a shell that others have set up; and before the Python of a virtual environment there, which finds
# its packages by itself.
PLAIN_PYTHON = f"unset {' '.join(INTERPRETER)}; "
OF_AN_ENVIRONMENT = "unset PYTHONHOME; "


def headless(**more: str) -> dict[str, str]:
    """This process's environment, changed as a run needs it. more: further variables."""
    return {name: value for name, value in os.environ.items() if name not in LEFT_OUT} | INSTEAD | more


def fix_hashes() -> None:
    """Starts this program again if its strings don't hash as those of a run: a process can't change that later."""
    if not HASHES.items() <= os.environ.items():
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **HASHES})  # noqa: S606
