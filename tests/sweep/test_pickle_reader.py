"""C2: a history that somebody sent reaches nothing of numpy that trusts it, and costs no more than its file explains.

What a hostile pickle might do ends a process, so it is read in one of its own, with little memory.
"""

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rig.synthetic_sweep import add_run, history, make_sweep, method

from mtlcluster.collect.make_report import make_report
from mtlcluster.collect.read_histories import OmittedRun, read_histories
from mtlcluster.collect.run_list import list_runs
from mtlcluster.sweep.history import read_history, write_history

TESTS = Path(__file__).parents[1]
READ = """
import resource, sys
from pathlib import Path
from mtlcluster.sweep.history import UnsafePickle, read_history
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
for name in sys.argv[1:]:
    try:
        found = read_history(Path(name))
        print(name, "accepted", repr(found)[:200])
    except (ValueError, UnsafePickle) as error:
        print(name, "refused", error)
"""


class Call:
    """Pickled as a call of `function`, whose result may get a state."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None) -> None:
        self.how = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> Any:
        return self.how


_reconstruct = np.array([1.0]).T.__reduce__()[0]
_scalar = np.float64(1).__reduce__()[0]
_frombuffer = np.array([1.0]).__reduce_ex__(5)[0]
ADDRESSES = b"\x41" * 64  # which would be taken for objects


def dtype(code: str = "f8", order: str = "<", *parts: Any) -> Call:
    return Call(np.dtype, code, False, True, state=(3, order, *(parts or (None, None, None)), -1, -1, 0))


def array(kind: Any, shape: Any = (8,), content: Any = ADDRESSES) -> Call:
    return Call(_reconstruct, np.ndarray, (0,), b"b", state=(1, shape, kind, False, content))


def opcodes(body: bytes) -> bytes:
    """A history of format 1 whose series are what `body` leaves on the stack."""
    return b"\x80\x04}(X\x06\x00\x00\x00formatK\x01X\x06\x00\x00\x00series" + body + b"u."


LAUGHS = b"](]\x94" + b"".join(b"](h" + bytes([i]) + b"h" + bytes([i]) + b"e\x94" for i in range(40)) + b"e"
HOSTILE: dict[str, Any] = {
    # objects made of bytes, by every way that numpy has
    "objects, by state": array(dtype("O8", "|")),
    "objects, by buffer": Call(_frombuffer, bytearray(ADDRESSES), dtype("O8", "|"), (8,), "C"),
    "objects, by ndarray itself": Call(np.ndarray, (8,), "O", ADDRESSES),
    "an object, by scalar": Call(_scalar, dtype("O8", "|"), ADDRESSES[:8]),
    "objects, in a list": array(dtype("O8", "|"), content=[1] * 8),
    "a number that becomes an object": array(dtype("f8", "<", (np.dtype("O"), (1,)), None, None)),
    "a record of objects": array(dtype("V8", "|", None, ("a",), {"a": (np.dtype("O"), 0)})),
    "a type in letters": array(Call(np.dtype, "O,O")),
    "a type as a list": array(Call(np.dtype, [("a", "O")])),
    # fewer bytes than an array's shape says, or more
    "too few bytes": array(dtype(), (2**40,), b"12345678"),
    "a product that overflows": array(dtype(), (2**32, 2**32, 8), b""),
    "a negative side": array(dtype(), (-1,), ADDRESSES),
    "no bytes and endless rows": array(dtype(), (2**62, 0), b""),
    "texts of no width": array(dtype("U0"), (2**40,), b""),
    "sizes that grow under way": array(dtype("f8", "<", None, None, {"a": 1}), (1,), b"12345678"),
    "impossible characters": array(dtype("U2"), (8,), b"\xff" * 64),
    "neither true nor false": array(dtype("b1", "|"), (64,), b"\x07" * 64),
    # an array's memory or a constructor changed afterwards
    "a constructor with a state": opcodes(b"cnumpy.core.multiarray\n_reconstruct\n}X\x01\x00\x00\x00aK\x01sb"),
    "a class with a state": opcodes(b"cnumpy\nndarray\n(NNtb"),
    # code
    "a call": Call(os.system, "echo called"),
    "an attribute of numpy": Call(np.lib.format.open_memmap, "x"),
    # what the machine itself can be made to do
    "a tuple too deep to be hashed": opcodes(b"}" + b")" + b"\x85" * 400_000 + b"K\x00s"),
    "a set of what is too deep": opcodes(b"\x8f(" + b")" + b"\x85" * 400_000 + b"\x90"),
    "lists too deep": opcodes(b"]" * 300_000 + b"a" * 299_999),
    "a list in itself": opcodes(b"]\x94h\x00a"),
    "a billion laughs": opcodes(LAUGHS),
    "a text met too often": opcodes(b"](X\x40\x42\x0f\x00" + b"y" * 1_000_000 + b"\x94" + b"h\x00" * 400_000 + b"e"),
    "a text of 2 ** 62 bytes": opcodes(b"\x8d" + (2**62).to_bytes(8, "little") + b"x"),
    "bytes of 2 ** 40": opcodes(b"\x96" + (2**40).to_bytes(8, "little") + b"x"),
    "a place far away": opcodes(b"]r\xff\xff\xff\xff" * 10),
    "a number that can't be printed": opcodes(b"\x8b" + (10**6).to_bytes(4, "little") + b"\x77" * 10**6),
    "very many lists": opcodes(b"](" + b"]" * 600_000 + b"e"),
    "an instance by its name": opcodes(b"(cos\nsystem\nX\x01\x00\x00\x00xo"),
    "persistent": opcodes(b"X\x01\x00\x00\x00xQ"),
    "an extension": opcodes(b"\x82\x01"),
    "no end": b"\x80\x04}(",
    "nothing": b"",
}


def test_whatever_a_hostile_history_is_it_is_refused_with_a_sentence(tmp_path: Path) -> None:
    for name, made in HOSTILE.items():
        content = made if isinstance(made, bytes) else pickle.dumps({"format": 1, "series": made})
        (tmp_path / name).write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-c", READ, *HOSTILE], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    said = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, ""), said[-1:]
    assert [line for line in said if " refused " not in line] == []
    assert len(said) == len(HOSTILE)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray | np.generic):
        kinds = {array.dtype.newbyteorder("=") for array in (one, other)}
        alike = type(one) is type(other) and len(kinds) == 1 and one.shape == other.shape
        return alike and bool(np.array_equal(one, other, equal_nan=one.dtype.kind in "fc"))
    if isinstance(one, dict):
        return type(other) is dict and list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


GOOD: dict[str, Any] = {
    "numbers": [np.arange(5), np.arange(3, dtype=np.uint8), np.float16([1]), np.array([1j]), np.array([1, np.nan])],
    "columns first": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "a cut": np.arange(12).reshape(3, 4)[:, ::2],
    "turned": np.arange(12.0).reshape(3, 4).T,
    "the other order": [np.arange(3, dtype=">i4"), np.array(["zwölf"], dtype=">U5")],
    "truth": [np.array([True, False]), np.True_, np.array([[True]])],
    "texts": [np.array(["a", "zwölf", "漢"]), np.array([b"x", b"yz"]), np.str_("hé"), np.bytes_(b"b")],
    "nothing": [np.zeros((0, 3)), np.array([]), [], {}, (), None],
    "single": [np.array(3.5), np.float32(2), np.int64(-3), np.float64(1.5)],
    "plain": {"tuple": (1, (2, [-5])), "large": 2**64, "bytes": b"x" * 300, "text": "t" * 300, 3: 1e300, True: False},
}
GOOD["shared"] = [GOOD["turned"], GOOD["turned"], GOOD["numbers"][0]]


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_plain_containers_and_arrays_are_what_they_were(tmp_path: Path, protocol: int) -> None:
    whole = {"format": 1, **history(method(gradient="pcgrad"), 0), "more": GOOD}
    content = pickle.dumps(whole, protocol=protocol)
    numpy_2, numpy_1 = b"cnumpy._core", b"cnumpy.core"  # what each calls the same, in a pickle without lengths
    texts = {content, content.replace(numpy_2, numpy_1), content.replace(numpy_1, numpy_2)}
    assert len(texts) == (2 if protocol == 3 else 1)
    for text in texts:
        (tmp_path / "history.pkl").write_bytes(text)
        assert same(read_history(tmp_path / "history.pkl"), whole)
    write_history(tmp_path / "ours.pkl", whole)
    found = read_history(tmp_path / "ours.pkl")
    assert same(found, whole)
    found["series"]["train/left/loss"]["value"] *= 2  # a reader may go on computing with it


def test_damaged_histories_are_refused_and_never_end_a_process(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", TESTS / "rig" / "mutated_pickles.py", "300"],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": f"{TESTS.parent}:{TESTS}"},
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_collect_passes_over_what_is_no_file(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path / "runs" / "sent")
    for name in ("good", "fifo", "link", "folder", "sparse", "endless", "infinite"):
        add_run(sweep, name, history(method(), 0))
    for name in ("fifo", "link", "folder", "endless"):
        sweep.run(name).history.unlink()
    os.mkfifo(sweep.run("fifo").history)
    sweep.run("link").history.symlink_to(sweep.run("good").history)
    sweep.run("folder").history.mkdir()
    sweep.run("endless").history.symlink_to("/dev/zero")
    os.truncate(sweep.run("sparse").history, 2**40)
    strange = history(method(), 0)
    strange["info"]["best"]["epoch"] = float("inf")
    write_history(sweep.run("infinite").history, strange)
    finished, omitted = read_histories(list_runs(sweep), lambda: None)
    assert [run.name for run in finished] == ["good"]
    reasons = {run.name: run.reason for run in omitted if isinstance(run, OmittedRun)}
    assert reasons.keys() == {"fifo", "link", "folder", "sparse", "endless", "infinite"}
    assert "is a pipe, not a file" in reasons["fifo"]
    assert "symbolic link" in reasons["link"]
    assert "symbolic link" in reasons["endless"]
    assert "1,099,511,627,776 bytes" in reasons["sparse"]


def test_numbers_that_no_training_gives_end_no_report(tmp_path: Path) -> None:
    """Steps that can't be, and values that overflow in means and on axes."""
    sweep = make_sweep(tmp_path / "runs" / "sent")
    strange = {
        "negative": lambda steps: -steps, "falling": lambda steps: steps[::-1], "endless": lambda steps: steps * np.inf,
        "none": lambda steps: steps * np.nan, "too_large": lambda steps: steps * 1e300,
    }  # fmt: skip
    for seed, name in enumerate(["good", "large", *strange]):
        made = history(method(), seed)
        for entry in made["series"].values():
            if name in strange:
                axis = "step" if "step" in entry else "epoch"
                entry[axis] = strange[name](np.asarray(entry[axis], dtype=float))
            elif name == "large":
                entry["value"] = np.where(np.arange(len(entry["value"])) % 2, 1.7e308, -1.7e308)
        add_run(sweep, name, made)
    said: list[str] = []
    page = make_report(sweep, said.append).read_text()
    assert said[0] == f"collected 2 of {2 + len(strange)} runs; not in this report: {len(strange)} unreadable"
    assert sorted(line.split(":")[0] for line in said[1:]) == sorted(f"passed over {name}" for name in strange)
    assert "that do not go up from 0" in page
