"""A real terminal in front of a command, and somebody who types."""

import contextlib
import os
import pty
import re
import select
import time
from collections.abc import Sequence
from pathlib import Path

PATIENCE = 60  # seconds


def type_at(command: Sequence[str], folder: Path, typed: Sequence[tuple[str, str]]) -> tuple[int, str]:
    """Runs a command at a terminal; its exit code, and all that was to be read there.

    typed: what is typed as soon as something is shown, in this order: `[("Password:", "secret\\n"), …]`.
    """
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.execvp(command[0], command)
    shown, seen, waiting, deadline = "", 0, list(typed), time.monotonic() + PATIENCE
    with contextlib.suppress(OSError):  # EIO: nobody has the terminal open any more
        while True:
            left = max(0, deadline - time.monotonic())
            assert select.select([terminal], [], [], left)[0], f"still waiting; shown so far:\n{shown}"
            shown += os.read(terminal, 2**16).decode(errors="replace")
            if waiting and (found := re.search(waiting[0][0], shown[seen:])):
                seen += found.end()
                os.write(terminal, waiting.pop(0)[1].encode())
    os.close(terminal)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert not waiting, f"never shown: {waiting[0][0]}; but:\n{shown}"
    return code, shown
