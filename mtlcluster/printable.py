"""Makes text by others safe to show in a terminal, a figure or a page: control sequences are removed.

Such text is a run's error, the name of a task or a host, a log, or the answer of a cluster.
"""

import re

# Control sequences, which set colours, titles or the clipboard: they begin with ESC or with a single C1 character.
ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]?"
)
BREAKS = re.compile("\r\n|[\r\v\f\x85\u2028\u2029]")
# Control characters, characters that change the direction of text or are invisible, and lone surrogates. Not the
# joiners, which some scripts need.
UNSEEN = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ud800-\udfff\ufeff"
    "\ufff9-\ufffb\U000e0000-\U000e007f]+"
)
SHOWN = "\ufffd"


def text(given: str) -> str:
    """Several lines. Tabs and line breaks stay; a carriage return becomes a line break."""
    if given.isprintable():
        return given
    return UNSEEN.sub(lambda found: SHOWN * len(found[0]), BREAKS.sub("\n", ESCAPES.sub("", given)))


def line(given: str) -> str:
    """One line. Line breaks and tabs become blanks."""
    return given if given.isprintable() else text(given).replace("\n", " ").replace("\t", " ")


def last_of_bars(given: str) -> str:
    """The text after the last carriage return of every line: the last state of a progress bar."""
    return "\n".join(map(_last_of_bar, given.replace("\r\n", "\n").split("\n")))


def _last_of_bar(line: str) -> str:
    written = line.rstrip("\r")
    return written.rpartition("\r")[2] + line[len(written) :]
