"""The names that sweeps, runs, code and jobs may have.

Names may come from anybody. One that fits leads out of no folder, and is no option of a command.
"""

import re

SWEEP = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")  # also code/<hash>, a submission's id, a cluster
RUN = re.compile(r"[A-Za-z0-9_=+,()][A-Za-z0-9._=+,()-]{0,149}")
JOB = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:;+-]{0,299}")  # 123_4, local:<host>:<process>:<start time>
HASHED = re.compile(r"(.*-)?[0-9a-f]{10}")  # a run's name, as grids make it: it ends with the run's identity
COPY = re.compile(r"(^|-)[0-9a-f]{10}[^0-9a-f]")  # of a copied folder, such as …-3f9a1c5e20.bak


def fits(pattern: re.Pattern[str], name: object) -> bool:
    """Whether `name` is a text that the whole pattern matches."""
    return isinstance(name, str) and pattern.fullmatch(name) is not None
