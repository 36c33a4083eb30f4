"""Clips with their features and labels, and batches of them, padded to the longest of the batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from mtlcluster import PackedFeatures, Padded, pad

from .annotations import TASKS, Record
from .hiccap import FEATURES

SHOWN = 5  # clips in one message

Item = tuple[str, dict[str, int]]


class Clips(Dataset[Item]):
    """The clips of one part, as pairs: the clip's name, of which `Collate` makes inputs, and {task: 0 or 1}.

    Attributes:
        ids: The names of the clips.
        labels: The labels of each clip, {task: 0 or 1}.
        lengths: The number of tokens (without text: of segments) of each clip. None: clips of any lengths may be in a
            batch.
    """

    def __init__(self, records: dict[str, Record], lengths: list[int] | None) -> None:
        self.ids = list(records)
        self.labels = [record.labels() for record in records.values()]
        self.lengths = lengths

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Item:
        return self.ids[index], self.labels[index]


@dataclass
class Collate:
    """Makes a batch of N clips: inputs of the modalities that take part, and targets [N] by task.

    The inputs are "text", tokens [N, L]; "video", features [N, L, 1024]; and "audio", features [N, L, 128]. Each is
    padded to the longest of the batch. Video is the sum of its two kinds. Longer sequences are cut. A missing
    soundtrack is one segment of zeros. The features of a batch are read at once.
    """

    texts: dict[str, NDArray[np.int64]] | None  # the ids [L] of every clip; None without text
    text_padding: int
    features: PackedFeatures | None
    longest: dict[str, int]  # the most segments, by modality

    def __call__(self, items: Sequence[Item]) -> tuple[dict[str, Padded], dict[str, Tensor]]:
        clips = [clip for clip, _ in items]
        inputs = {}
        if self.texts is not None:
            inputs["text"] = pad([torch.from_numpy(self.texts[clip]) for clip in clips], self.text_padding)
        for modality, longest in self.longest.items():
            assert self.features is not None
            first, *others = (self.features.batch(k, clips, longest) for k in kinds_of(modality, self.features))
            for other in others:
                first.values.add_(other.values)
            inputs[modality] = first
        return inputs, {task: torch.tensor([labels[task] for _, labels in items]) for task in TASKS}

    def length(self, clip: str) -> int:
        """The number of tokens of a clip; without text, the number of its segments."""
        if self.texts is not None:
            return len(self.texts[clip])
        assert self.features is not None
        first = {kinds_of(modality, self.features)[0]: longest for modality, longest in self.longest.items()}
        return sum(min(self.features.length(kind, clip), longest) for kind, longest in first.items())


def kinds_of(modality: str, features: PackedFeatures) -> tuple[str, ...]:
    """The kinds of packed features whose sum is the input of a modality."""
    if modality == "audio":
        return ("vggish",)
    return ("video",) if "video" in features.kinds else ("rgb", "flow")


def with_features(
    clips: Sequence[str], features: PackedFeatures, modalities: Sequence[str], missing: Literal["refuse", "drop"]
) -> list[str]:
    """Selects the clips that have features. Only a soundtrack may be missing.

    Args:
        clips: The annotated clips.
        features: The packed features.
        modalities: Those that need features.
        missing: The treatment of clips that lack features: "drop" leaves them out and prints their number.

    Raises:
        ValueError: Clips lack features, and `missing` is "refuse"; or features have the wrong width or unequal lengths.
    """
    for modality in modalities:
        for kind in kinds_of(modality, features):
            if features.width(kind) != FEATURES[modality]:
                found = f"'{kind}' is {features.width(kind)} wide"
                raise ValueError(f"{features.path}: {found}, the model takes {FEATURES[modality]}")
    kept = [clip for clip in clips if clip in features and ("video" not in modalities or _has_video(clip, features))]
    if len(kept) < len(clips):
        lacking = sorted(set(clips) - set(kept))
        names = ", ".join(lacking[:SHOWN]) + (", …" if len(lacking) > SHOWN else "")
        message = f"{len(lacking)} of {len(clips)} annotated clips lack features in {features.path}: {names}"
        if missing == "refuse":
            raise ValueError(f"{message}; pack them too, or set data.missing_video: drop")
        print(f"{message}; left out", flush=True)
    return kept


def _has_video(clip: str, features: PackedFeatures) -> bool:
    lengths = {kind: features.length(kind, clip) for kind in kinds_of("video", features)}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{features.path}: clip {clip}: rgb and flow should be equally long, found {lengths}")
    return max(lengths.values()) > 0


def balanced_weights(labels: Sequence[dict[str, int]], task: str) -> tuple[float, float]:
    """The weights (no, yes) with which both classes count the same. Their mean over the clips is 1.

    Raises:
        ValueError: A class is missing.
    """
    yes = sum(clip[task] for clip in labels)
    if yes in (0, len(labels)):
        raise ValueError(f"class_weights: all training clips are {'yes' if yes else 'no'} for '{task}': use none")
    return len(labels) / (2 * (len(labels) - yes)), len(labels) / (2 * yes)
