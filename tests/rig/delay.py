"""For ssh's ProxyCommand, a connection to a host far away: python delay.py HOST PORT SECONDS [CUT_AFTER_BYTES]

Whatever either side sends arrives SECONDS later, however much it is. With CUT_AFTER_BYTES the connection ends once so
many bytes have come from the host.
"""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue

CHUNK = 1 << 18


def relay(read: Callable[[int], bytes], write: Callable[[bytes], object], seconds: float) -> None:
    """Until the end of what is read, which arrives as late as the rest."""
    chunks = SimpleQueue()
    threading.Thread(target=receive, args=(read, chunks, seconds), daemon=True).start()
    while True:
        due, chunk = chunks.get()
        time.sleep(max(0, due - time.monotonic()))
        if not chunk:
            return
        write(chunk)


def receive(read: Callable[[int], bytes], chunks: SimpleQueue, seconds: float) -> None:
    chunk = b"more"
    while chunk:
        try:
            chunk = read(CHUNK)
        except ConnectionError:
            chunk = b""
        chunks.put((time.monotonic() + seconds, chunk))


def upstream(server: socket.socket, seconds: float) -> None:
    try:
        relay(lambda size: os.read(0, size), server.sendall, seconds)
        server.shutdown(socket.SHUT_WR)
    except OSError:
        return  # it has gone already, as the other direction finds


def downstream(server: socket.socket, seconds: float, left: int) -> None:
    def read(size: int) -> bytes:
        nonlocal left
        chunk = server.recv(min(size, left))
        left -= len(chunk)
        return chunk

    def write(chunk: bytes) -> None:
        while chunk:
            chunk = chunk[os.write(1, chunk) :]

    try:
        relay(read, write, seconds)
    except BrokenPipeError:
        return  # ssh has ended


def main(host: str, port: str, seconds: str, cut_after: str = str(sys.maxsize)) -> None:
    # ssh hangs up as soon as it ends, with its last bytes still on their way.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    delay = float(seconds)
    time.sleep(2 * delay)  # the handshake of TCP
    try:
        server = socket.create_connection((host.encode(), int(port)))  # as str it would import IDNA
    except OSError as error:
        sys.exit(f"delay.py: connect to {host} port {port}: {error.strerror}")
    server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    os.close(2)  # which is ssh's: who reads it to its end need not wait for us
    threading.Thread(target=upstream, args=(server, delay), daemon=True).start()
    downstream(server, delay, int(cut_after))
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
