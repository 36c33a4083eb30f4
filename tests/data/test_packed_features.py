"""From files per clip to one packed file, whatever happens on the way, and from that file into a DataLoader."""

import io
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch.utils.data import DataLoader, Dataset

from mtlcluster import PackedFeatures, pad
from mtlcluster.cli import app
from mtlcluster.data import pack_features

ROOT = Path(__file__).parents[2]
CLIPS = ("TkZFuKHXa7w_2", "Auyj3CNF5xk.03", "9VSnFeGmM4k_x", "-a_b.c-1")
WIDTHS = {"rgb": 16, "flow": 16, "vggish": 4}
Features = dict[tuple[str, str], np.ndarray]


def write(folder: Path, clips=CLIPS, silent: tuple[str, ...] = (CLIPS[1],)) -> Features:
    """Sequences of random lengths, as (kind, clip) → array; `silent` clips have no vggish."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    made = {}
    for clip in clips:
        length = int(generator.integers(1, 9))
        for kind, width in WIDTHS.items():
            if kind == "vggish" and clip in silent:
                continue
            made[kind, clip] = generator.standard_normal((length, width), dtype=np.float32)
            np.save(folder / f"{clip}_{kind}.npy", made[kind, clip])
    return made


def call(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["pack-features", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result.exit_code, result.output


def same(packed: PackedFeatures, made: Features) -> bool:
    return all(np.array_equal(packed.get(kind, clip), values) for (kind, clip), values in made.items())


@pytest.fixture
def source(tmp_path: Path) -> Path:
    write(tmp_path / "source")
    return tmp_path / "source"


def test_every_sequence_comes_back_and_what_is_missing_is_told(tmp_path):
    source, target = tmp_path / "source", tmp_path / "features.h5"
    made = write(source)
    for name in ("notes.txt", "Auyj3CNF5xk.03.npy"):
        (source / name).touch()
    code, said = call(source, target)
    assert code == 0
    assert "1 of 4 clips have no vggish: Auyj3CNF5xk.03" in said
    assert "not named <clip>_<kind>.npy in UTF-8: 2 files: Auyj3CNF5xk.03.npy, notes.txt" in said
    packed = PackedFeatures(target)
    assert h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, h5py.h5f.OBJ_FILE) == 0  # none that a fork would share
    assert same(packed, made)
    assert packed.ids == sorted(CLIPS)
    assert sorted(packed.kinds) == sorted(WIDTHS)
    assert {kind: packed.width(kind) for kind in WIDTHS} == WIDTHS
    assert packed.get("vggish", CLIPS[1]).shape == (0, 4)
    assert packed.length("rgb", CLIPS[0]) == len(made["rgb", CLIPS[0]])
    assert CLIPS[0] in packed
    assert "nobody" not in packed
    assert not packed.get("rgb", CLIPS[0]).flags.writeable
    with h5py.File(target) as file:  # as any other program would read it
        rows = [*(made["rgb", clip] for clip in sorted(CLIPS)), np.zeros((1, 16))]
        assert np.array_equal(file["kinds/rgb/values"], np.concatenate(rows))
        assert json.loads(file.attrs["checks"]) == pack_features.CHECKS
    with pytest.raises(ValueError, match="no clip 'TkZFuKHXa7w_3'; did you mean 'TkZFuKHXa7w_2'"):
        packed.get("rgb", "TkZFuKHXa7w_3")
    with pytest.raises(ValueError, match="no features of kind 'rbg'; did you mean 'rgb'"):
        packed.get("rbg", CLIPS[0])


def test_a_batch_is_the_sequences_padded_to_the_longest_of_them(tmp_path):
    made = write(tmp_path / "source")
    call(tmp_path / "source", tmp_path / "features.h5")
    packed, order = PackedFeatures(tmp_path / "features.h5"), [CLIPS[2], CLIPS[1], CLIPS[0], CLIPS[2]]
    for kind, longest in itertools.product(WIDTHS, (None, 1, 3, 100)):
        silence = torch.zeros(1, WIDTHS[kind])
        sequences = [torch.from_numpy(made[kind, c]) if (kind, c) in made else silence for c in order]
        batch, expected = packed.batch(kind, order, longest), pad([sequence[:longest] for sequence in sequences])
        assert batch.values.equal(expected.values)
        assert batch.mask.equal(expected.mask)
    nothing = packed.batch("vggish", [CLIPS[1]])
    assert nothing.values.tolist() == [[[0.0] * 4]]
    assert nothing.mask.tolist() == [[True]]
    nothing.values.add_(1)  # no view: the file stays as it is
    assert not packed.batch("vggish", [CLIPS[1]]).values.any()
    with pytest.raises(ValueError, match="no clip 'nobody'"):
        packed.batch("rgb", [CLIPS[0], "nobody"])


def test_a_sum_is_stored_in_place_of_its_parts(tmp_path):
    source, target = tmp_path / "source", tmp_path / "features.h5"
    made = write(source)
    (source / f"{CLIPS[3]}_flow.npy").unlink()
    code, said = call(source, target, "--add", "video=rgb+flow")
    assert code == 0
    assert f"1 of 4 clips have no video: {CLIPS[3]}" in said
    packed = PackedFeatures(target)
    assert sorted(packed.kinds) == ["vggish", "video"]
    assert same(packed, {("video", clip): made["rgb", clip] + made["flow", clip] for clip in CLIPS[:3]})
    assert same(packed, {place: values for place, values in made.items() if place[0] == "vggish"})
    assert packed.length("video", CLIPS[3]) == 0
    assert "complete already" in call(source, target, "--add", "video=rgb+flow")[1]
    assert "was packed from other files" in call(source, target)[1]


def test_parts_that_cannot_be_added_are_refused(tmp_path, source):
    path = source / f"{CLIPS[0]}_flow.npy"
    np.save(path, np.concatenate([np.load(path)] * 2))
    code, said = call(source, tmp_path / "features.h5", "--add", "video=rgb+flow")
    assert code == 2
    assert f"{CLIPS[0]}_flow.npy: shape" in said
    np.save(path, planted(2, 7, np.nan))
    np.save(source / f"{CLIPS[0]}_rgb.npy", planted(0, 0, 0.0))
    code, said = call(source, tmp_path / "features.h5", "--add", "video=rgb+flow")
    assert code == 2
    assert f"{CLIPS[0]}_flow.npy: nan at segment 2, column 7" in said
    for add, words in {
        "video=rgb+flwo": "no files of kind 'flwo'; did you mean 'flow'",
        "vggish=rgb+flow": "files of kind 'vggish' are there already",
        "video": "expected a new kind",
        "video=rgb": "expected a new kind",
        "rgb=rgb+flow": "expected a new kind",
        "video=rgb+rgb": "expected a new kind",
    }.items():
        code, said = call(source, tmp_path / "features.h5", "--add", add)
        assert (code, words in said) == (2, True), said
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_names_that_are_not_utf_8_are_left_out_and_told(tmp_path, source):
    shutil.copy(source / f"{CLIPS[0]}_rgb.npy", os.fsencode(source) + b"/caf\xe9_rgb.npy")
    code, said = call(source, tmp_path / "features.h5")
    assert code == 0
    assert r"1 file: caf\xe9_rgb.npy" in said
    assert len(PackedFeatures(tmp_path / "features.h5")) == len(CLIPS)


def test_other_floating_types_and_memory_orders_become_float32(tmp_path, source):
    values = np.random.default_rng(1).standard_normal((5, 16))
    arrays = {"half": values.astype(np.float16), "big": values.astype(">f8"), "f": np.asfortranarray(values)}
    for clip, array in arrays.items():
        np.save(source / f"{clip}_rgb.npy", array)
    assert call(source, tmp_path / "features.h5")[0] == 0
    packed = PackedFeatures(tmp_path / "features.h5")
    assert np.array_equal(packed.get("rgb", "half"), values.astype(np.float16).astype(np.float32))
    assert np.array_equal(packed.get("rgb", "big"), values.astype(np.float32))
    assert np.array_equal(packed.get("rgb", "f"), values.astype(np.float32))


def planted(row: int, column: int, value: float, dtype: type = np.float32) -> np.ndarray:
    array = np.zeros((4, 16), dtype)
    array[row, column] = value
    return array


def saved(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


BAD = {
    "one dimension": (saved(np.zeros(16, np.float32)), "shape [16], expected [segments, width]"),
    "other width": (saved(np.zeros((3, 15), np.float32)), "width 15, other clips' rgb have 16"),
    "integers": (saved(np.zeros((3, 16), np.int64)), "type int64, expected float32"),
    "no segments": (saved(np.zeros((0, 16), np.float32)), "shape [0, 16]: nothing in it"),
    "NaN": (saved(planted(2, 7, np.nan)), "nan at segment 2, column 7"),
    "infinite": (saved(planted(3, 0, -np.inf)), "-inf at segment 3, column 0"),
    "too large for float32": (saved(planted(1, 1, 1e300, np.float64)), "inf at segment 1, column 1"),
    "cut short": (saved(np.zeros((3, 16), np.float32))[:-40], "cut short: 152 of 192 bytes"),
    "cut in the header": (saved(np.zeros((3, 16), np.float32))[:50], "unreadable"),
    "empty": (b"", "unreadable"),
    "no npy": (b"PK\x03\x04 something else", "unreadable"),
    "pickled": (saved(np.array([[{}]], object)), "holds pickled objects"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_files_are_refused_by_name(tmp_path, source, what):
    content, message = BAD[what]
    (source / "bad_clip_rgb.npy").write_bytes(content)
    code, said = call(source, tmp_path / "features.h5")
    assert code == 2
    assert f"bad_clip_rgb.npy: {message}" in said
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_all_bad_files_are_counted_at_once(tmp_path, source):
    for number, (content, _) in enumerate(BAD.values()):
        (source / f"bad-{number}_rgb.npy").write_bytes(content)
    code, said = call(source, tmp_path / "features.h5")
    assert code == 2
    assert f"{len(BAD)} bad files of {len(BAD) + 11}" in said
    assert f"and {len(BAD) - pack_features.SHOWN} more" in said


def test_a_target_that_is_there_is_kept(tmp_path, source):
    target = tmp_path / "features.h5"
    call(source, target)
    before = target.read_bytes()
    assert "complete already" in call(source, target)[1]
    np.save(source / "new_rgb.npy", np.ones((2, 16), np.float32))
    code, said = call(source, target)
    assert code == 2
    assert "was packed from other files" in said
    assert target.read_bytes() == before
    assert call(source, target, "--force")[0] == 0
    assert "new" in PackedFeatures(target)
    target.write_text("my notes")
    assert call(source, target)[0] == 2
    assert target.read_text() == "my notes"


KILLED = """
import os, signal, sys
from pathlib import Path
from mtlcluster.data import pack_features as pack
load, pack.NOTE = pack.load_sum, -1        # a note after every sequence
def loading(sequence, problems):
    left.append(1)
    if len(left) > 5:
        os.kill(os.getpid(), int(sys.argv[3]))
    return load(sequence, problems)
left, pack.load_sum = [], loading
signal.signal(signal.SIGINT, signal.default_int_handler)
pack.pack(Path(sys.argv[1]), Path(sys.argv[2]), False, print)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_who_is_interrupted_goes_on(tmp_path, monkeypatch, how):
    source, target, whole = tmp_path / "source", tmp_path / "features.h5", tmp_path / "whole.h5"
    made = write(source)
    call(source, whole)
    command = [sys.executable, "-c", KILLED, source, target, str(int(how))]
    assert subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True).returncode != 0
    assert not target.exists()
    partial = tmp_path / "features.h5.partial"
    with pytest.raises(ValueError, match="unfinished, holds 5 of 11 sequences"):
        PackedFeatures(partial)
    loaded = []
    load = pack_features.load_sum
    monkeypatch.setattr(
        pack_features, "load_sum", lambda sequence, *more: loaded.append(sequence) or load(sequence, *more)
    )
    code, said = call(source, target)
    assert code == 0
    assert "5 of 11 sequences are in" in said
    assert len(loaded) == 6
    assert target.read_bytes() == whole.read_bytes()
    assert same(PackedFeatures(target), made)
    assert not partial.exists()


def test_after_an_interruption_changed_files_are_read_anew(tmp_path, monkeypatch):
    source, target = tmp_path / "source", tmp_path / "features.h5"
    made = write(source)
    command = [sys.executable, "-c", KILLED, source, target, str(int(signal.SIGKILL))]
    subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True)
    changed = "flow", sorted(CLIPS)[0]
    made[changed] = made[changed] + 1
    time.sleep(0.01)
    np.save(source / f"{changed[1]}_flow.npy", made[changed])
    assert call(source, target)[0] == 0
    assert same(PackedFeatures(target), made)


@pytest.mark.parametrize("damage", ["cut", "other", "text", "absent", "folder"])
def test_what_is_no_packed_file_is_refused(tmp_path, source, damage):
    target = tmp_path / "features.h5"
    if damage == "cut":
        call(source, target)
        os.truncate(target, target.stat().st_size - 100)
    elif damage == "other":
        with h5py.File(target, "w") as file:
            file["values"] = np.zeros(3)
    elif damage == "text":
        target.write_text("features")
    elif damage == "folder":
        target.mkdir()
    with pytest.raises(ValueError, match=r"features\.h5: .*pack-features"):
        PackedFeatures(target)


class Clips(Dataset[torch.Tensor]):
    def __init__(self, features: PackedFeatures) -> None:
        self.features = features

    def __len__(self) -> int:
        return len(self.features.ids)

    def __getitem__(self, index: int) -> torch.Tensor:
        batch = self.features.batch("rgb", self.features.ids)
        return batch.values[index] + self.features.get("flow", self.features.ids[index]).sum()


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_worker_processes_read_the_same(tmp_path, source, start):
    call(source, tmp_path / "features.h5")
    data = Clips(PackedFeatures(tmp_path / "features.h5"))
    assert data[0].any()  # what the parent has mapped, a fork inherits
    loader = DataLoader(data, batch_size=None, num_workers=2, multiprocessing_context=start)
    loaded = list(loader)
    assert len(loaded) == len(CLIPS)
    assert all(torch.equal(one, data[i]) for i, one in enumerate(loaded))
