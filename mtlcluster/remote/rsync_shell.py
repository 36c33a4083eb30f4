"""What rsync calls in ssh's place: `rsh.py SSH MARK HOST rsync --server …` leaves out whatever a login shell prints
before the marker. Run as a file of its own, so nothing of mtlcluster is imported.

What this process writes to is the socket that rsync has made non-blocking: `cat` would give up as soon as rsync is
slower than the line.
"""

import base64
import json
import os
import select
import subprocess
import sys

STDOUT = 1
CHUNK = 2**16


def main() -> int:
    """SSH: the words that call ssh, as JSON in base64, for rsync splits its `-e` at blanks."""
    ssh, mark, _, *command = sys.argv[1:]
    words = [*json.loads(base64.b64decode(ssh)), *command]
    with subprocess.Popen(words, bufsize=0, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        source, printed = process.stdout.fileno(), b""
        while f"{mark}\n".encode() not in printed:
            chunk = os.read(source, CHUNK)
            if not chunk:
                return process.wait() or 255
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
    except (BrokenPipeError, KeyboardInterrupt):  # rsync has ended, and says itself why
        sys.exit(255)
