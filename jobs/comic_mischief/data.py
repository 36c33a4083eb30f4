"""Clips with their features and labels, and batches of them, padded to the longest of the batch."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from mtlcluster import PackedFeatures, Padded, pad

from .annotations import TASKS, Record
from .hiccap import FEATURES

KINDS = {"video": ("rgb", "flow"), "audio": ("vggish",)}        # of packed features, by modality; the sum is taken
SHOWN = 5           # clips in one message

Item = tuple[dict[str, Tensor], dict[str, int]]


class Clips(Dataset[Item]):
    """Clips as pairs: {"text": tokens [L], "video": [L, 1024], "audio": [L, 128]}, of the modalities that take part,
    and {task: 0 or 1}. Video is the sum of its two kinds; longer sequences are cut; a missing soundtrack is one segment
    of zeros. texts: None without text. longest: segments by modality. lengths: the tokens of each clip (without text:
    the segments), where similar_length asks for batches of similar length.
    """

    def __init__(
        self,
        records: dict[str, Record],
        texts: dict[str, NDArray[np.int64]] | None,
        features: PackedFeatures | None,
        longest: dict[str, int],
        similar_length: bool,
    ) -> None:
        self.ids = list(records)
        self.labels = [record.labels() for record in records.values()]
        self.texts = None if texts is None else [texts[clip] for clip in records]
        self.features, self.longest = features, longest
        self.lengths = [self._length(i) for i in range(len(self))] if similar_length else None

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Item:
        inputs = {} if self.texts is None else {"text": torch.from_numpy(self.texts[index])}
        for modality, longest in self.longest.items():
            inputs[modality] = torch.from_numpy(self._segments(modality, self.ids[index], longest))
        return inputs, self.labels[index]

    def _segments(self, modality: str, clip: str, longest: int) -> NDArray[np.float32]:
        assert self.features is not None
        first, *others = (self.features.get(kind, clip)[:longest] for kind in KINDS[modality])
        if not len(first):
            return np.zeros((1, FEATURES[modality]), np.float32)
        return sum(others, first) if others else first.copy()       # the file's own pages are not to be written

    def _length(self, index: int) -> int:
        if self.texts is not None:
            return len(self.texts[index])
        assert self.features is not None
        kinds = [(KINDS[modality][0], longest) for modality, longest in self.longest.items()]
        return sum(min(self.features.length(kind, self.ids[index]), longest) for kind, longest in kinds)


def with_features(
    clips: Sequence[str], features: PackedFeatures, modalities: Sequence[str], missing: Literal["refuse", "drop"]
) -> list[str]:
    """The clips that have features: `drop` leaves out the others, and says how many; `refuse` raises ValueError. Only a
    soundtrack may be missing. Raises ValueError, naming clip or file, for kinds of the wrong width or unequal lengths.
    """
    for modality in modalities:
        for kind in KINDS[modality]:
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
    lengths = {kind: features.length(kind, clip) for kind in KINDS["video"]}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{features.path}: clip {clip}: rgb and flow should be equally long, found {lengths}")
    return lengths["rgb"] > 0


def collate(items: Sequence[Item], text_padding: int) -> tuple[dict[str, Padded], dict[str, Tensor]]:
    """Every modality padded to the longest of the batch: text with `text_padding`, features with zeros. Targets [N]."""
    inputs = {
        modality: pad([clip[modality] for clip, _ in items], text_padding if modality == "text" else 0.0)
        for modality in items[0][0]
    }
    return inputs, {task: torch.tensor([labels[task] for _, labels in items]) for task in TASKS}


def balanced_weights(labels: Sequence[dict[str, int]], task: str) -> tuple[float, float]:
    """The weights (no, yes) by which both classes count the same, and a clip 1 on average. Raises ValueError where one
    class is missing.
    """
    yes = sum(clip[task] for clip in labels)
    if yes in (0, len(labels)):
        raise ValueError(f"class_weights: all training clips are {'yes' if yes else 'no'} for '{task}': use none")
    return len(labels) / (2 * (len(labels) - yes)), len(labels) / (2 * yes)

