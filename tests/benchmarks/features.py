"""Clips per second from one file per clip and kind, against the same clips from a packed file.

    python tests/benchmarks/features.py [CLIPS]

writes CLIPS (512) clips of 8 to 36 video and 15 to 63 audio segments, one in ten without sound, packs them with
`--add video=rgb+flow`, and reads them in batches of 16, each way for a stretch in turn, in one process, with all files
in the page cache:

    per clip    np.load of rgb, flow and vggish; rgb + flow; padded to 36 and 63; stacked
    packed      the same clips for training, padded to the longest of the batch
    mapped      the clips' sequences as they lie in the file, whose values nobody has looked at yet

The first two give new tensors of their own, with every value in memory. One thread.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from mtlcluster import PackedFeatures
from mtlcluster.data.pack_features import pack

VIDEO, AUDIO, BATCH, ROUNDS = 36, 63, 16, 12
STRETCH = 0.2  # seconds
SILENCE = np.zeros((1, 128), np.float32)


def write(folder: Path, clips: int) -> None:
    generator = np.random.default_rng(0)
    for number in range(clips):
        video, audio = int(generator.integers(8, VIDEO + 1)), int(generator.integers(15, AUDIO + 1))
        shapes = {"rgb": (video, 1024), "flow": (video, 1024), "vggish": (audio, 128)}
        for kind, shape in shapes.items():
            if kind != "vggish" or number % 10:
                np.save(folder / f"clip-{number:05d}_1_{kind}.npy", generator.standard_normal(shape, dtype=np.float32))


def padded(values: np.ndarray, length: int) -> np.ndarray:
    whole = np.zeros((length, values.shape[1]), np.float32)
    whole[: len(values)] = values
    return whole


def per_clip(folder: Path, batch: list[str]) -> object:
    video, audio = [], []
    for clip in batch:
        video.append(padded(np.load(folder / f"{clip}_rgb.npy") + np.load(folder / f"{clip}_flow.npy"), VIDEO))
        sound = folder / f"{clip}_vggish.npy"
        audio.append(padded(np.load(sound) if sound.exists() else SILENCE, AUDIO))
    return torch.from_numpy(np.stack(video)), torch.from_numpy(np.stack(audio))


def packed(features: PackedFeatures, batch: list[str]) -> object:
    return features.batch("video", batch, VIDEO), features.batch("vggish", batch, AUDIO)


def main(clips: int) -> None:
    torch.set_num_threads(1)
    torch.empty(2**23 - 2**12)  # freed at once: from now on malloc keeps such blocks, as in any training process
    with tempfile.TemporaryDirectory() as temporary:
        folder, target = Path(temporary) / "source", Path(temporary) / "features.h5"
        folder.mkdir()
        write(folder, clips)
        start = time.perf_counter()
        pack(folder, target, False, print, {"video": ("rgb", "flow")})
        print(f"packed in {time.perf_counter() - start:.1f} s")
        features = PackedFeatures(target)
        ways = {
            "per clip": lambda batch: per_clip(folder, batch),
            "packed": lambda batch: packed(features, batch),
            "mapped": lambda batch: [features.get(kind, clip) for clip in batch for kind in features.kinds],
        }
        speeds: dict[str, list[float]] = {way: [] for way in ways}
        shuffle = np.random.default_rng(1)
        for number in range(ROUNDS + 2):
            for way, read in ways.items():
                speed = clips_per_second(read, features.ids, shuffle)
                if number >= 2:  # the first rounds bring the files into the page cache
                    speeds[way].append(speed)
    for way, each in speeds.items():
        ratio = statistics.median(fast / slow for slow, fast in zip(speeds["per clip"], each, strict=True))
        print(f"{way:10s} {statistics.median(each):10,.0f} clips a second, {ratio:6.1f} times")


def clips_per_second(read: Callable[[list[str]], object], clips: list[str], shuffle: np.random.Generator) -> float:
    """Over whole epochs, each in an order of its own, for at least STRETCH seconds."""
    seconds, count = 0.0, 0
    while seconds < STRETCH:
        order = [clips[i] for i in shuffle.permutation(len(clips))]
        start = time.perf_counter()
        for first in range(0, len(order), BATCH):
            read(order[first : first + BATCH])
        seconds += time.perf_counter() - start
        count += len(order)
    return count / seconds


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 512)
