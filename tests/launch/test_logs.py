"""Logs that a progress bar has filled with carriage returns: read only once, and shown as a terminal shows them."""

from pathlib import Path

import pytest

from mtlcluster.launch import logs

SIZE = 8_000_000


def bars(end: str) -> str:
    bar = "".join(f"{i % 100:3}%|####  | {i}/999 [00:10<00:20, 12.3it/s]{end}" for i in range(1000))
    return bar * (SIZE // len(bar)) + "100%|######| 999/999"


def read_by_this_process() -> int:
    return int(Path("/proc/self/io").read_text().split()[1])


@pytest.mark.parametrize(
    "text",
    [bars("\r"), "epoch 1\n" + bars("\r"), bars("\r") + "\n", "x" * SIZE, "é" * (SIZE // 2), "a\n" * 9 + bars(" ")],
    ids=["bar", "line before", "line end", "no end", "two bytes", "spaces"],
)
@pytest.mark.parametrize("lines", [1, 1000])
def test_the_end_of_a_log_takes_one_reading(tmp_path: Path, text: str, lines: int) -> None:
    log = tmp_path / "log.txt"
    log.write_text(text)
    before = read_by_this_process()
    shown, position = logs.tail(log, lines)
    assert read_by_this_process() - before < 1.2 * SIZE + 2**20
    assert position == log.stat().st_size
    assert shown.rstrip("\n").endswith(text[-20:].rstrip("\n"))


def test_of_lines_that_were_written_over_their_last_state_is_shown_and_as_many_lines_as_asked(tmp_path: Path) -> None:
    """Also if each line is millions of characters long."""
    log = tmp_path / "log.txt"
    bar = bars("\r")
    log.write_text("".join(f"epoch {i}\n{bar} of {i}\r\n" for i in range(1, 4)))
    shown, _ = logs.tail(log, 5)
    last = [f"100%|######| 999/999 of {i}" for i in (1, 2, 3)]
    assert shown.split() == f"{last[0]} epoch 2 {last[1]} epoch 3 {last[2]}".split()
