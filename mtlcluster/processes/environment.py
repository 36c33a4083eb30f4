"""The environment of a process that has neither a screen nor a user in front of it.

Whoever submits may sit in a notebook, at a desktop or in a debugging session. What their variables say holds there, and
not in a run: it would fail, wait for a keyboard, or leave out its assertions.
"""

import os
import sys

# A screen, which the run may outlive or which its machine doesn't have.
SCREEN = ("DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY", "SESSION_MANAGER", "WINDOWID")
# How Python behaves. Not which packages it finds, nor how it names files: that is to be as it was at `submit`.
INTERPRETER = (
    "PYTHONASYNCIODEBUG", "PYTHONCASEOK", "PYTHONDEBUG", "PYTHONDEVMODE", "PYTHONDUMPREFS", "PYTHONEXECUTABLE",
    "PYTHONINSPECT", "PYTHONOPTIMIZE", "PYTHONPROFILEIMPORTTIME", "PYTHONSAFEPATH", "PYTHONSTARTUP",
    "PYTHONTRACEMALLOC", "PYTHONVERBOSE", "PYTHONWARNDEFAULTENCODING", "PYTHONWARNINGS",
)  # fmt: skip
COLOUR = ("FORCE_COLOR", "CLICOLOR_FORCE", "PY_COLORS", "PYTHON_COLORS", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
LEFT_OUT = frozenset({*SCREEN, *INTERPRETER, *COLOUR})
# Else sets of strings have another order in every process, and classes numbered by one other numbers after each resume.
HASHES = {"PYTHONHASHSEED": "0"}
INSTEAD = {
    **HASHES,
    "MPLBACKEND": "Agg",  # a notebook's backend is a package that a run may not have
    "QT_QPA_PLATFORM": "offscreen",  # without a screen Qt aborts the process
    "SDL_VIDEODRIVER": "dummy",
    "PYTHONBREAKPOINT": "0",  # a breakpoint() that was forgotten would wait for ever
    "PYTHONIOENCODING": "utf-8:backslashreplace",  # whatever the terminal takes: a log is UTF-8
}
# The same for a batch script, before the cluster's own lines: those may start a screen, and say how Python behaves.
SHELL = "; ".join(
    [f"unset {' '.join(sorted(LEFT_OUT))}", *(f"export {name}={value}" for name, value in INSTEAD.items())]
)
# For Python in a shell that others have set up; an environment's own, besides, finds its packages by itself.
PLAIN_PYTHON = f"unset {' '.join(INTERPRETER)}; "
OF_AN_ENVIRONMENT = "unset PYTHONHOME; "


def headless(**more: str) -> dict[str, str]:
    """This process's environment as a run may have it, and `more`."""
    return {name: value for name, value in os.environ.items() if name not in LEFT_OUT} | INSTEAD | more


def fix_hashes() -> None:
    """Starts this program anew where its strings don't hash as those of a run: a process can't change that later."""
    if not HASHES.items() <= os.environ.items():
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **HASHES})  # noqa: S606
