"""The program that rsync calls in place of ssh: `rsync_shell.py SSH MARK HOST rsync --server …`.

It calls ssh, and leaves out what the login shell prints before the marker. It runs as a file of its own and imports
nothing of mtlcluster.

rsync has made the socket that this process writes to non-blocking: `cat` would fail as soon as rsync reads more slowly
than the data arrive.
"""

import base64
import json
import os
import select
import subprocess
import sys

STDOUT = 1
CHUNK = 2**16
LOST = 255  # exit status of ssh for a connection that is lost


def main() -> int:
    """Returns the exit status. SSH are the words of the call to ssh, as JSON in base64: rsync splits `-e` at blanks."""
    ssh, mark, _, *command = sys.argv[1:]
    words = [*json.loads(base64.b64decode(ssh)), *command]
    with subprocess.Popen(words, bufsize=0, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        source, printed = process.stdout.fileno(), b""
        while f"{mark}\n".encode() not in printed:
            chunk = os.read(source, CHUNK)
            if not chunk:
                return process.wait() or LOST
            printed += chunk
        pass_on(printed.partition(f"{mark}\n".encode())[2])
        while chunk := os.read(source, CHUNK):
            pass_on(chunk)
        return process.wait()


def pass_on(chunk: bytes) -> None:
    rest = memoryview(chunk)
    while rest:
        try:
            rest = rest[os.write(STDOUT, rest) :]
        except BlockingIOError:
            select.select([], [STDOUT], [])


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (BrokenPipeError, KeyboardInterrupt):  # rsync has ended, and reports the reason itself
        sys.exit(LOST)
