"""Reads as many damaged histories as it is told; ends with an error at anything but a refusal:
python mutated_pickles.py COUNT
"""

import contextlib
import pickle
import random
import resource
import sys
import tempfile
from pathlib import Path

import numpy as np
from rig.synthetic_sweep import history, method

from mtlcluster.collect.read_histories import read_histories
from mtlcluster.collect.run_list import ListedRun
from mtlcluster.sweep.folder import Run
from mtlcluster.sweep.history import UnsafePickle, read_history

OPCODES = b"\x85\x86\x87\x88\x90\x91\x93\x94\x8f\x96\x97\x98Rbuae()]}0123hjst"
WHOLE = {"format": 1, **history(method(gradient="pcgrad"), 0, epochs=3, points=4)}
ODD = {**WHOLE, "arrays": [np.arange(6.0).reshape(2, 3).T, np.array(["a", "b"]), np.float32(2), np.eye(4)[:, ::2]]}


def mutated(chance: random.Random, content: bytes) -> bytes:
    """With bytes changed, removed, put twice, moved, or replaced by instructions."""
    data = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        start, place = chance.randrange(len(data)), chance.randrange(len(data))
        part = data[start : start + chance.randrange(1, 60)]
        match chance.randrange(5):
            case 0:
                data[start] = chance.randrange(256)
            case 1:
                data[start:start] = part
            case 2:
                del data[start : start + len(part)]
            case 3:
                data[place:place] = part
            case _:
                data[start : start + 1] = bytes([chance.choice(OPCODES)])
    return bytes(data)


def main(count: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
    chance = random.Random(12)
    whole = [pickle.dumps(each, protocol=protocol) for each in (WHOLE, ODD) for protocol in (3, 4, 5)]
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder))
        for _ in range(count):
            run.history.write_bytes(mutated(chance, chance.choice(whole)))
            with contextlib.suppress(ValueError, UnsafePickle):
                pickle.dumps(read_history(run.history))
            read_histories([ListedRun(run, "done", "", [0, 0], [0, 0])], lambda: None)


if __name__ == "__main__":
    main(int(sys.argv[1]))
