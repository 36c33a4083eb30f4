"""Annotated clips: the JSON files that Baharlouei et al. (LREC-COLING 2024) publish.

The ids of their texts are of two vocabularies, which are told apart here. Splits keep each video whole.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pydantic
from numpy.typing import NDArray

from .text import Tokenizer

KEYS = {"mischief": "y", "mature": "mature", "gory": "gory", "slapstick": "slapstick", "sarcasm": "sarcasm"}
TASKS = tuple(KEYS)
CLIP = re.compile(r"(?P<video>.+)[_.]\d+")  # a clip's id, such as `TkZFuKHXa7w_2` or `Auyj3CNF5xk.03`
NO_ID = 200_000  # larger than any vocabulary of word pieces
SPLITS_TRIED = 5000
SHOWN = 5  # mistakes in one message


def _from_pair(pair: Any) -> int:
    if pair not in ([1, 0], [0, 1]):
        raise ValueError("should be [1, 0] (no) or [0, 1] (yes)")
    return int(pair[1])


Label = Annotated[int, pydantic.BeforeValidator(_from_pair)]
Id = Annotated[int, pydantic.Field(ge=0, lt=NO_ID)]


class Record(pydantic.BaseModel):
    """One clip, under the published keys. The keys `id`, `IMDBid` and `label` are not used and not read."""

    model_config = pydantic.ConfigDict(strict=True)

    indexes: list[Id]
    words: list[str]
    caps_index: list[Id] = []
    cap_words: list[str] = []
    y: Label
    mature: Label
    gory: Label
    slapstick: Label
    sarcasm: Label

    @pydantic.model_validator(mode="after")
    def _any_is_any_of_the_four(self) -> "Record":
        named = [key for key in ("mature", "gory", "slapstick", "sarcasm") if getattr(self, key)]
        if self.y != bool(named):
            raise ValueError(f"y is {'yes' if self.y else 'no'}, but yes are: {', '.join(named) or 'none of the four'}")
        return self

    def labels(self) -> dict[str, int]:
        """0 or 1 for each task."""
        return {task: getattr(self, key) for task, key in KEYS.items()}


def read_annotations(path: str | Path) -> dict[str, Record]:
    """Reads the records of a file, by clip id.

    Raises:
        ValueError: The file is not as published; the message names the clip.
    """
    try:
        data = json.loads(Path(path).read_text("utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"{path}: not JSON: {error}") from None
    if not isinstance(data, dict) or not data:
        raise ValueError(f"{path}: expected one object of clip id → record, found {str(data)[:40]}")
    records = {}
    for clip, value in data.items():
        if not CLIP.fullmatch(clip):
            raise ValueError(f"{path}: '{clip}' is no clip id such as TkZFuKHXa7w_2 or Auyj3CNF5xk.03")
        try:
            records[clip] = Record.model_validate(value)
        except pydantic.ValidationError as error:
            mistake = error.errors()[0]
            where = ".".join(map(str, mistake["loc"]))
            words = "missing" if mistake["type"] == "missing" else mistake["msg"].removeprefix("Value error, ")
            raise ValueError(f"{path}: clip {clip}: {where + ': ' if where else ''}{words}") from None
    return records


def video_of(clip: str) -> str:
    """The video of a clip."""
    found = CLIP.fullmatch(clip)
    assert found  # `read_annotations` has checked it
    return found["video"]


# Vocabularies --------------------------------------------------------------------------------------------------------

Pairs = list[tuple[str, int]]  # pieces with their ids

# The published texts mix the vocabularies of bert-base-cased and bert-base-uncased, in this order: how many pieces each
# has, and the ids of some.
SIZES = (28_996, 30_522)
SPECIAL = {"[CLS]": (101, 101), "[SEP]": (102, 102)}
COMMON = {
    "you": (1128, 2017), "the": (1103, 1996), "a": (170, 1037), "to": (1106, 2000), "s": (188, 1055),
    "and": (1105, 1998), "that": (1115, 2008), "it": (1122, 2009), "in": (1107, 1999), "of": (1104, 1997),
    "is": (1110, 2003), "we": (1195, 2057), "know": (1221, 2113), "what": (1184, 2054), "on": (1113, 2006),
    "me": (1143, 2033), "my": (1139, 2026), "this": (1142, 2023), "was": (1108, 2001), "no": (1185, 2053),
    "just": (1198, 2074), "with": (1114, 2007), "all": (1155, 2035), "have": (1138, 2031), "like": (1176, 2066),
    "man": (1299, 2158), "so": (1177, 2061), "for": (1111, 2005), "##s": (1116, 2015), "here": (1303, 2182),
}  # fmt: skip


class Vocabulary:
    """A vocabulary, as far as the records show it. Each piece has one id, and each id one piece."""

    def __init__(self, known: Pairs, size: int = NO_ID) -> None:
        self.size = size
        self.ids: dict[str, Counter[int]] = defaultdict(Counter)
        self.pieces: dict[int, Counter[str]] = defaultdict(Counter)
        self.clips: list[str] = []
        self.confirmed = False  # whether a record agrees with what was known before
        self._learn(known)

    def add(self, clip: str, pairs: Pairs) -> None:
        self.clips.append(clip)
        self._learn(pairs)

    def _learn(self, pairs: Pairs) -> None:
        for piece, id in pairs:
            self.ids[piece][id] += 1
            self.pieces[id][piece] += 1

    def contradicts(self, piece: str, id: int) -> str | None:
        """Checks a piece with its id.

        Returns:
            A sentence if they contradict the vocabulary, else None. They do if the id is too large, or if most records
            have another id for the piece or another piece for the id.
        """
        if id >= self.size:
            return f"'{piece}' is {id}, beyond its vocabulary's {self.size:,} pieces"
        usual_id = self.ids[piece].most_common(1)[0][0] if piece in self.ids else id
        usual_piece = self.pieces[id].most_common(1)[0][0] if id in self.pieces else piece
        if usual_id != id:
            return f"'{piece}' is {id}, elsewhere {usual_id}"
        return f"{id} is '{piece}', elsewhere '{usual_piece}'" if usual_piece != piece else None

    def compare(self, pairs: Pairs) -> tuple[int, int]:
        """Counts the pairs that agree with what is known, and those that contradict it."""
        known = [pair for pair in pairs if pair[0] in self.ids or pair[1] in self.pieces]
        against = sum(self.contradicts(*pair) is not None for pair in known)
        return len(known) - against, against


def encode_texts(
    records: dict[str, Record], tokenizer: Tokenizer, captions: bool, longest: int
) -> tuple[dict[str, NDArray[np.int64]], int]:
    """Encodes the texts of clips.

    A text is [CLS] … [SEP], an empty one [CLS] [SEP]. With captions, a clip's caption and [SEP] follow. A text that is
    longer than `longest` is cut and ends in [SEP], too.

    Args:
        records: The clips.
        tokenizer: Its ids are wanted.
        captions: True if to append the captions.
        longest: The most ids of a text.

    Returns:
        The ids [L] of each clip; and for how many clips they were encoded again from their words.

    Raises:
        ValueError: The ids of some clips fit no vocabulary; the message names the clips.
    """
    fields = [("indexes", "words"), ("caps_index", "cap_words")][: 1 + captions]
    bodies: dict[str, list[list[int]]] = {clip: [] for clip in records}
    again: set[str] = set()
    for ids, pieces in fields:
        foreign = _foreign_clips(records, tokenizer, ids, pieces)
        again |= foreign
        for clip, record in records.items():
            words = " ".join(_words(getattr(record, pieces)))
            bodies[clip].append(tokenizer.encode(words) if clip in foreign else getattr(record, ids)[1:-1])
    texts = {}
    for clip, (text, *caption) in bodies.items():
        tokens = [tokenizer.cls, *text, tokenizer.sep]
        tokens += [*caption[0], tokenizer.sep] if caption and caption[0] else []
        if len(tokens) > longest:
            tokens = [*tokens[: longest - 1], tokenizer.sep]
        texts[clip] = np.array(tokens, np.int64)
    return texts, len(again)


def _foreign_clips(records: dict[str, Record], tokenizer: Tokenizer, ids_key: str, pieces_key: str) -> set[str]:
    """Finds the clips whose ids are of another vocabulary than the tokenizer's.

    Other vocabularies are known by COMMON and by the records themselves: a record belongs to the vocabulary with which
    it agrees in most of the pieces that both know.
    """
    mistakes: dict[str, str] = {}
    foreign: dict[str, Pairs] = {}
    lonely = True
    for clip, record in records.items():
        try:
            pairs = _pairs(record, ids_key, pieces_key)
        except ValueError as error:
            mistakes[clip] = str(error)
            continue
        wrong = [pair for pair in pairs if (tokenizer.vocabulary or {}).get(pair[0]) != pair[1]]
        content = [pair for pair in pairs if not _special(pair)]
        if not pairs:  # a clip without a caption
            continue
        if tokenizer.vocabulary is not None and not wrong:
            lonely = False
        elif content and 2 * sum(not _special(pair) for pair in wrong) < len(content):
            mistakes[clip] = f"'{wrong[0][0]}' is {wrong[0][1]}, which the other ids' vocabulary does not have"
        else:
            foreign[clip] = pairs
    mistakes |= _unexplained(foreign, lonely)
    if mistakes:
        shown = "; ".join(f"{clip}: {mistake}" for clip, mistake in list(mistakes.items())[:SHOWN])
        more = f"; and {len(mistakes) - SHOWN} more" if len(mistakes) > SHOWN else ""
        count = f"{len(mistakes)} of {len(records)}"
        raise ValueError(f"{count} texts fit no vocabulary (correct or remove them): {shown}{more}")
    return set(foreign)


def _unexplained(foreign: dict[str, Pairs], lonely: bool) -> dict[str, str]:
    """Finds the clips whose ids belong to no vocabulary, and why. lonely: whether there are no other records."""
    known = SPECIAL | COMMON
    found = [Vocabulary([(piece, ids[i]) for piece, ids in known.items()], size) for i, size in enumerate(SIZES)]
    for clip, pairs in sorted(foreign.items(), key=lambda item: -len(item[1])):
        content = [pair for pair in pairs if not _special(pair)]
        chosen, agree, against = Vocabulary([]), 0, 1
        for vocabulary in sorted(found, key=lambda v: -len(v.clips)):
            compared = vocabulary.compare(content)
            if compared[0] - compared[1] > agree - against:
                chosen, (agree, against) = vocabulary, compared
        if agree <= against and against:
            chosen, agree = Vocabulary([]), 0
            found.append(chosen)
        chosen.confirmed |= agree > 0
        chosen.add(clip, pairs)
    mistakes: dict[str, str] = {}
    found = [vocabulary for vocabulary in found if vocabulary.clips]
    for vocabulary in found:
        if not vocabulary.confirmed and not (lonely and len(found) == 1):
            mistakes |= dict.fromkeys(vocabulary.clips, "its ids are of no vocabulary that another record has")
            continue
        for clip in vocabulary.clips:
            reasons = (vocabulary.contradicts(*pair) for pair in foreign[clip])
            if reason := next(filter(None, reasons), None):
                mistakes[clip] = reason
    return mistakes


def _special(pair: tuple[str, int]) -> bool:
    return pair[0] in ("[CLS]", "[SEP]")


def _pairs(record: Record, ids_key: str, pieces_key: str) -> Pairs:
    """Pairs the pieces of a record with their ids. The special pieces, which some records lack, are added.

    Returns:
        The pairs; none if the record has neither pieces nor ids.

    Raises:
        ValueError: There is not one id for each piece.
    """
    ids, pieces = getattr(record, ids_key), _without_special(getattr(record, pieces_key))
    if not ids and not pieces:
        return []
    if len(ids) != len(pieces) + 2:
        raise ValueError(f"{ids_key} has {len(ids)} ids for [CLS], [SEP] and the {len(pieces)} pieces of {pieces_key}")
    return list(zip(["[CLS]", *pieces, "[SEP]"], ids, strict=True))


def _without_special(pieces: list[str]) -> list[str]:
    return pieces[1:-1] if len(pieces) > 1 and (pieces[0], pieces[-1]) == ("[CLS]", "[SEP]") else pieces


def _words(pieces: list[str]) -> list[str]:
    """Joins pieces to words: a piece with `##` continues a word."""
    words: list[str] = []
    for piece in _without_special(pieces):
        if piece.startswith("##") and words:
            words[-1] += piece[2:]
        else:
            words.append(piece)
    return words


# Splits --------------------------------------------------------------------------------------------------------------


def split(records: dict[str, Record], shares: dict[str, float], seed: int) -> dict[str, list[str]]:
    """Splits the clips into parts. All clips of a video are in one part.

    Of many random splits it takes the best: in each part, the share of all clips, and the share of each label's clips,
    come nearest to the part's share.

    Args:
        records: The clips.
        shares: The share of each part; they sum to 1. A share of 0 gives an empty part.
        seed: The seed of the random splits.

    Returns:
        The clips of each part.

    Raises:
        ValueError: There are too few videos.
    """
    parts = [part for part, share in shares.items() if share > 0]
    wanted = np.array([shares[part] for part in parts])
    videos, video = np.unique([video_of(clip) for clip in records], return_inverse=True)
    if len(videos) < len(parts):
        raise ValueError(f"{len(videos)} videos cannot be split into {', '.join(parts)}: every part needs one")
    counts = np.zeros((len(videos), 1 + len(TASKS)))
    np.add.at(counts, video, [[1, *record.labels().values()] for record in records.values()])
    counts /= np.maximum(counts.sum(0), 1)
    generator = np.random.default_rng(seed)
    best, nearest = np.zeros(len(videos), int), np.inf
    for _ in range(SPLITS_TRIED):
        order = generator.permutation(len(videos))
        middles = np.cumsum(counts[order, 0]) - counts[order, 0] / 2
        part_of = np.empty(len(videos), int)
        part_of[order] = np.searchsorted(np.cumsum(wanted)[:-1], middles)
        found = np.stack([counts[part_of == i].sum(0) for i in range(len(parts))])
        distance = float(((found / wanted[:, None] - 1) ** 2).sum()) if found[:, 0].all() else np.inf
        if distance < nearest:
            best, nearest = part_of, distance
    if not np.isfinite(nearest):
        raise ValueError(f"the clips of {len(videos)} videos cannot be split into {', '.join(parts)}: one stays empty")
    clips: dict[str, list[str]] = {part: [] for part in shares}
    for clip, own in zip(records, best[video], strict=True):
        clips[parts[own]].append(clip)
    return clips


def refuse_shared_videos(parts: Mapping[str, Iterable[str]]) -> None:
    """Checks that no video has clips in two parts: the model would be tested on videos that it was trained on.

    Raises:
        ValueError: A video has.
    """
    seen: dict[str, str] = {}
    for part, clips in parts.items():
        for clip in clips:
            if (other := seen.setdefault(video_of(clip), part)) != part:
                raise ValueError(
                    f"video {video_of(clip)} has clips in both {other} and {part}: put them into one file, or "
                    "all clips into `annotations`, which is split by video"
                )
