"""Text that somebody else has written, as a terminal, a figure or a page shows it without obeying it: a run's error,
a task's or a host's name, a log, what a cluster answers.
"""

import re

# What begins with ESC, or with the one character that stands for it and the next: colours, titles, the clipboard.
ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]?"
)
BREAKS = re.compile("\r\n|[\r\v\f\x85\u2028\u2029]")
# Controls, what turns the direction of text or hides in it, and halves of characters; but not the joiners of scripts.
UNSEEN = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ud800-\udfff\ufeff"
    "\ufff9-\ufffb\U000e0000-\U000e007f]"
)
SHOWN = "\ufffd"


def text(given: str) -> str:
    """Some lines. Tabs and line breaks stay; a carriage return breaks the line, too."""
    if given.isprintable():
        return given
    return UNSEEN.sub(SHOWN, BREAKS.sub("\n", ESCAPES.sub("", given)))


def line(given: str) -> str:
    """One line, whatever is in it."""
    return given if given.isprintable() else text(given).replace("\n", " ").replace("\t", " ")


def last_of_bars(given: str) -> str:
    """Of lines that were written over, as progress bars are, what was written last."""
    return "\n".join(map(_last_of_bar, given.replace("\r\n", "\n").split("\n")))


def _last_of_bar(line: str) -> str:
    written = line.rstrip("\r")
    return written.rpartition("\r")[2] + line[len(written) :]
