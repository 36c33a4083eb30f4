"""Scripts and paths for the shell of a login node."""

import base64
import re
import shlex

MARK = "---mtlcluster---"  # printed between the output of the login shell and that of a script

# The beginning of a script that should not outlive its caller. sshd lets a script without a terminal go on; this kills
# the script, and all that it started, when its input ends.
UNTIL_INPUT_ENDS = "exec 3<&0 </dev/null; { cat <&3; kill -- -$$; } >/dev/null 2>&1 & exec 3<&-; "


def marked(script: str) -> str:
    """A command that runs a script of bash, in whichever login shell, and prints MARK before the script's output.

    It is one simple command with the script in single quotes.
    """
    if re.search(r"[\\!\n]", script):  # fish and csh change these characters even in single quotes
        script = f'eval "$(echo {base64.b64encode(script.encode()).decode()} | base64 -d)"'
    return f"exec bash -lc {shlex.quote(f'echo {MARK}; {script}')}"


def path_word(path: str) -> str:
    """A path on the cluster as a word of its shell. `~` is the home; nothing else is special."""
    if path == "~":
        return '"$HOME"'
    return f'"$HOME"/{shlex.quote(path[2:])}' if path.startswith("~/") else shlex.quote(path)


def path_from_home(path: str) -> str:
    """A path on the cluster for rsync, which starts in the home and does not know `~`."""
    if path == "~":
        return "."
    return f"./{path[2:]}" if path.startswith("~/") else path
