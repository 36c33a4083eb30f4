"""Five tasks about short videos: is there any comic mischief, and is it mature, gory, slapstick humor or sarcasm?

The model is HICCAP of Baharlouei et al. (LREC-COLING 2024), see hiccap.py. The data are described in annotations.py and
data.py; synthetic.py makes synthetic ones for a machine that has none.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mtlcluster import PackedFeatures, Problem, Task

from .annotations import TASKS, Record, encode_texts, read_annotations, refuse_shared_videos, split
from .data import Clips, Collate, balanced_weights, with_features
from .hiccap import Hiccap, Modality, VideoOrder
from .pretrained import load_pretrained
from .text import load_tokenizer


@dataclass
class Data:
    """Options of the data.

    Paths in a configuration begin with /, ~ or $; or with ./ or ../, and are then relative to the folder of the
    configuration.

    A clip without a soundtrack has one segment of zeros as audio. An empty text is [CLS] [SEP]. A missing caption adds
    nothing. The clips of one video are never in two parts.
    """

    annotations: str  # JSON as published; split by video
    features: str | None = None  # a packed file with video, or rgb and flow, and vggish; None for text alone
    validation_annotations: str | None = None  # instead of a share of `annotations`
    test_annotations: str | None = None
    validation_share: float = 0.15  # of the clips in `annotations`
    test_share: float = 0.15  # 0: no test
    split_seed: int = 0
    text_length: int = 500  # tokens; longer texts are cut, and so are video and audio
    video_length: int = 36  # segments
    audio_length: int = 63  # seconds
    captions: bool = False  # whether a clip's caption is appended to its text
    missing_video: Literal["refuse", "drop"] = "refuse"  # what to do with clips without video features
    class_weights: Literal["none", "balanced"] = "none"  # balanced: yes and no have the same weight in every loss
    similar_length: bool = False  # batches of clips with texts of similar length: several times faster
    workers: int = 0  # processes that load data

    def __post_init__(self) -> None:
        if min(self.text_length - 2, self.video_length - 1, self.audio_length - 1) < 0:
            raise ValueError("data: text_length should be at least 2, video_length and audio_length at least 1")
        if min(self.validation_share, self.test_share) < 0 or self.validation_share + self.test_share >= 1:
            raise ValueError("data: validation_share and test_share should be at least 0, and together less than 1")
        for option in ("annotations", "features", "validation_annotations", "test_annotations"):
            path = getattr(self, option)
            if path is not None and not Path(path).is_absolute():
                raise ValueError(
                    f"data.{option}: '{path}' would be looked for wherever a job happens to run: begin it with / or ~, "
                    "or in a configuration file with ./ or ../, which is from that file's own folder"
                )


@dataclass
class Model:
    """Options of the model."""

    text_encoder: str = "bert-base-uncased"  # `small`, a folder, or a name in transformers' cache
    modalities: list[Modality] = field(default_factory=lambda: ["text", "video", "audio"])
    video_order: VideoOrder = "text_first"  # what video attends to first; the published multi-task model: audio_first
    freeze: list[Literal["text", "video", "audio", "trunk"]] = field(default_factory=list)
    units: int = 512  # of the LSTMs over video and audio, each layer and direction
    pretrained: str | None = None  # a checkpoint of the authors


def build(data: Data, model: Model) -> Problem:
    """Makes the problem: HICCAP, with five binary tasks whose thresholds are chosen on validation data."""
    network = Hiccap(TASKS, model.text_encoder, model.modalities, model.video_order, model.freeze, model.units)
    if model.pretrained:
        load_pretrained(network, model.pretrained)
    parts, collate = load(data, model)
    labels = parts["train"].labels
    balanced = data.class_weights == "balanced"
    return Problem(
        model=network,
        tasks=[
            Task.binary(task, class_weights=balanced_weights(labels, task) if balanced else None, threshold=None)
            for task in TASKS
        ],
        train=parts["train"],
        validation=parts["validation"],
        test=parts["test"] if len(parts["test"]) else None,
        collate=collate,
        workers=data.workers,
    )


def load(data: Data, model: Model) -> tuple[dict[str, Clips], Collate]:
    """Loads the clips, and prints what it found.

    Returns:
        The clips of "train", "validation" and "test"; and the function that makes batches of them.
    """
    records = read_parts(data)
    every = {clip: record for part in records.values() for clip, record in part.items()}
    texts, text_padding = None, 0
    if "text" in model.modalities:
        tokenizer = load_tokenizer(model.text_encoder)
        texts, again = encode_texts(every, tokenizer, data.captions, data.text_length)
        text_padding = tokenizer.pad
        print(f"texts: {again} of {len(every)} encoded again from their words, as their ids are another vocabulary's")
    given = {"video": data.video_length, "audio": data.audio_length}
    longest: dict[str, int] = {modality: length for modality, length in given.items() if modality in model.modalities}
    features = None
    if longest:
        if data.features is None:
            raise ValueError("data.features is missing: what mtlcluster pack-features has written")
        features = PackedFeatures(data.features)
        kept = set(with_features(list(every), features, list(longest), data.missing_video))
        records = {name: {c: record for c, record in part.items() if c in kept} for name, part in records.items()}
    collate = Collate(texts, text_padding, features, longest)
    lengths = {n: [collate.length(c) for c in part] if data.similar_length else None for n, part in records.items()}
    parts = {name: Clips(part, lengths[name]) for name, part in records.items()}
    for name in ("train", "validation"):
        if not len(parts[name]):
            raise ValueError(f"data: no clips for {name}")
    print("clips: " + ", ".join(f"{len(part)} for {name}" for name, part in parts.items()), flush=True)
    return parts, collate


def read_parts(data: Data) -> dict[str, dict[str, Record]]:
    """Reads the records of train, validation and test, from their own files or split from `annotations` by video."""
    files = {"train": data.annotations, "validation": data.validation_annotations, "test": data.test_annotations}
    records = {part: read_annotations(path) for part, path in files.items() if path}
    refuse_shared_videos(records)
    shares = {"validation": data.validation_share, "test": data.test_share}
    shares = {part: 0.0 if part in records else share for part, share in shares.items()}
    clips = split(records["train"], {"train": 1 - sum(shares.values()), **shares}, data.split_seed)
    drawn = {part: {clip: records["train"][clip] for clip in own} for part, own in clips.items()}
    return drawn | {part: own for part, own in records.items() if part != "train"}
