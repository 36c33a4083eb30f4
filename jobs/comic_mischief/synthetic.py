"""Synthetic features and annotations in exactly the published layout, so that the experiment runs on any machine:

    python -m jobs.comic_mischief.synthetic OUT_DIR [--annotations FILE] [--clips N] [--seed S]

It writes OUT_DIR/features/<clip>_rgb.npy, _flow.npy and _vggish.npy for every clip of OUT_DIR/annotations.json. That is
a copy of FILE, or N synthetic clips. For each of its labels, a clip's features have a weak cue for some time.
"""

import argparse
import json
import shutil
import string
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from .annotations import COMMON, KEYS, SPECIAL, Record, read_annotations, video_of

WIDTHS = {"rgb": 1024, "flow": 1024, "vggish": 128}
CUES = {"mature": ("rgb", "vggish"), "gory": ("rgb",), "slapstick": ("flow", "vggish"), "sarcasm": ("vggish",)}
STRENGTHS = {"rgb": 0.35, "flow": 0.35, "vggish": 0.7}  # of a cue; every feature has noise of standard deviation 1
MISLEADING = 0.1  # the share of cues that are present without the label, or absent with it
WITHOUT_SOUND = 0.04  # the share of clips without a soundtrack
EMPTY_TEXTS = 0.05  # the share of clips with an empty text
WITH_CAPTION = 0.31  # the share of videos with captions

# How many of the 282 published validation clips have which labels.
PATTERNS = {
    (): 130, ("mature",): 52, ("slapstick",): 34, ("sarcasm",): 30, ("mature", "slapstick"): 12,
    ("mature", "sarcasm"): 9, ("gory", "slapstick"): 7, ("gory",): 6, ("slapstick", "sarcasm"): 2,
}  # fmt: skip

# The words that tell a label, with their ids in both vocabularies, as in COMMON.
TELLING = {
    "mature": {"drunk": (6882, 7144), "naked": (6222, 6248), "beer": (5298, 5404), "hot": (2633, 2980)},
    "gory": {"blood": (1892, 2668), "kill": (2311, 3102), "knife": (4937, 5442), "dead": (2044, 2757)},
    "slapstick": {"fall": (2303, 2991), "kick": (5642, 5926), "jump": (5152, 5376), "slip": (7324, 7540)},
    "sarcasm": {"sure": (1612, 2469), "great": (1632, 2307), "genius": (13533, 11067), "thanks": (5438, 4283)},
}
IDS = SPECIAL | COMMON | {piece: ids for pieces in TELLING.values() for piece, ids in pieces.items()}


def make_annotations(clips: int, seed: int) -> dict[str, dict[str, object]]:
    """Makes records like the published ones, with the published shares of labels. A video has one to twelve clips."""
    generator = np.random.default_rng([seed, 1])
    shares = np.array(list(PATTERNS.values())) / sum(PATTERNS.values())
    ends = np.rint(np.cumsum(shares) * clips).astype(int)
    kinds = generator.permutation(np.repeat(np.arange(len(PATTERNS)), np.diff(ends, prepend=0)))
    patterns = list(PATTERNS)
    records: dict[str, dict[str, object]] = {}
    while len(records) < clips:
        video = "".join(generator.choice(list(string.ascii_letters + string.digits + "_-"), 11))
        captioned = bool(generator.random() < WITH_CAPTION)
        for number in range(min(int(generator.integers(1, 13)), clips - len(records))):
            clip = f"{video}.{number:02d}" if captioned else f"{video}_{number + 1}"
            labels = patterns[kinds[len(records)]]
            records[clip] = _record(clip, len(records), labels, captioned, generator)
    return records


def _record(
    clip: str, number: int, labels: tuple[str, ...], captioned: bool, generator: np.random.Generator
) -> dict[str, object]:
    length = int(np.clip(generator.gamma(2.0, 60.0), 3, 250))
    if generator.random() < EMPTY_TEXTS:
        length = 0
    words = list(generator.choice(list(COMMON), length))
    for label in labels:
        for place in generator.integers(0, length, length // 25) if length else ():
            words[place] = generator.choice(list(TELLING[label]))
    pieces = ["[CLS]", *map(str, words), "[SEP]"]
    pair = {True: [0, 1], False: [1, 0]}
    record: dict[str, object] = {
        "id": number,
        "IMDBid": clip,
        "indexes": [IDS[piece][captioned] for piece in pieces],
        "words": pieces[1:-1] if captioned else pieces,
        "label": int(bool(labels)),
        **{key: pair[bool(labels) if key == "y" else key in labels] for key in KEYS.values()},
    }
    if captioned:
        caption = ["[CLS]", *map(str, generator.choice(list(COMMON), int(generator.integers(10, 120)))), "[SEP]"]
        record |= {"caps_index": [IDS[piece][True] for piece in caption], "cap_words": caption[1:-1]}
    return record


def make_features(clip: str, record: Record, seed: int) -> dict[str, NDArray[np.float32]]:
    """Makes the features of a clip. What the clips of a video have in common is no cue.

    Returns:
        "rgb" [8 … 36, 1024]; "flow", as long; and "vggish" [15 … 63, 128], which some clips lack. No value is negative,
        as in the outputs of the published networks.
    """
    generator = np.random.default_rng([seed, zlib.crc32(clip.encode())])
    of_video = np.random.default_rng([seed, zlib.crc32(video_of(clip).encode())])
    segments = int(generator.integers(8, 37))
    seconds = int(np.clip(round(1.75 * segments + generator.normal(0, 3)), 15, 63))
    shown = {task: bool(getattr(record, task)) != (generator.random() < MISLEADING) for task in CUES}
    features = {}
    for kind, width in WIDTHS.items():
        length = seconds if kind == "vggish" else segments
        values = generator.normal(0, 1, (length, width)) + of_video.normal(0, 0.3, width)
        for task, kinds in CUES.items():
            if shown[task] and kind in kinds:
                stretch = int(generator.integers(length // 3, length + 1))
                first = int(generator.integers(0, length - stretch + 1))
                values[first : first + stretch] += STRENGTHS[kind] * _cue(task, kind, seed)
        features[kind] = np.maximum(values, 0).astype(np.float32)
    if generator.random() < WITHOUT_SOUND:
        del features["vggish"]
    return features


def _cue(task: str, kind: str, seed: int) -> NDArray[np.float64]:
    """The direction [width] of a cue: which features it raises and lowers."""
    return np.random.default_rng([seed, zlib.crc32(f"{task} {kind}".encode())]).normal(0, 1, WIDTHS[kind])


def main() -> None:
    """Writes the files, as the module's docstring says."""
    parser = argparse.ArgumentParser(prog="python -m jobs.comic_mischief.synthetic", description=__doc__.split(":")[0])
    parser.add_argument("out_dir", type=Path)
    parser.add_argument("--annotations", type=Path, help="make features for these clips, instead of inventing clips")
    parser.add_argument("--clips", type=int, default=160, help="how many clips to invent (160)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    folder, annotations = arguments.out_dir / "features", arguments.out_dir / "annotations.json"
    folder.mkdir(parents=True, exist_ok=True)
    if arguments.annotations:
        shutil.copyfile(arguments.annotations, annotations)
    else:
        annotations.write_text(json.dumps(make_annotations(arguments.clips, arguments.seed)), "utf-8")
    try:
        records = read_annotations(annotations)
    except ValueError as error:
        parser.error(str(error))
    for clip, record in track(records.items(), "synthetic features"):
        for kind, values in make_features(clip, record, arguments.seed).items():
            np.save(folder / f"{clip}_{kind}.npy", values)
    print(f"{len(records)} clips: {annotations} and {folder}/")


if __name__ == "__main__":
    main()
