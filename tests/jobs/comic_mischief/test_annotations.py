"""Annotations: nothing is read that is not as published, no text in a wrong vocabulary, no video in two parts."""

import json
import random

import numpy as np
import pytest

from jobs.comic_mischief.annotations import (
    TASKS,
    Record,
    encode_texts,
    read_annotations,
    refuse_shared_videos,
    split,
    video_of,
)
from jobs.comic_mischief.text import Tokenizer, load_tokenizer

SHARES = {"train": 0.7, "validation": 0.15, "test": 0.15}
NO, YES = [1, 0], [0, 1]
LABELS = {"y": NO, "mature": NO, "gory": NO, "slapstick": NO, "sarcasm": NO}
TEXT = {"indexes": [101, 5, 6, 102], "words": ["[CLS]", "so", "##me", "[SEP]"]}


def tokenizer_of(vocabulary):
    """A tokenizer of whole words; what it does not know is 100."""
    vocabulary = {"[CLS]": 101, "[SEP]": 102, **vocabulary}

    def encode(text):
        return [vocabulary.get(word.lower(), 100) for word in text.split()]

    return Tokenizer(vocabulary, pad=0, cls=101, sep=102, unknown=100, encode=encode)


@pytest.fixture(scope="module")
def records(annotations):
    return read_annotations(annotations)


@pytest.fixture(scope="module")
def uncased(records):
    """The vocabulary of the clips with a caption, in a published file."""
    known = {}
    for record in records.values():
        if record.cap_words:
            known |= zip(record.words, record.indexes[1:-1], strict=True)
            known |= zip(record.cap_words, record.caps_index[1:-1], strict=True)
    return tokenizer_of(known)


def test_texts_of_the_other_vocabulary_are_encoded_again_from_their_words(records, uncased):
    texts, again = encode_texts(records, uncased, captions=False, longest=500)
    of_others = [clip for clip, record in records.items() if not record.cap_words and len(record.indexes) > 2]
    assert again == len(of_others) > 100
    for clip, record in records.items():
        if record.cap_words:
            assert texts[clip].tolist() == record.indexes
    vocabulary = uncased.vocabulary
    for clip in of_others:  # of whole words that are known, nothing else could be meant
        words = [word.lower() for word in records[clip].words[1:-1]]
        if all(word in vocabulary for word in words) and not any(word.startswith("##") for word in words):
            assert texts[clip][1:-1].tolist() == [vocabulary[word] for word in words]
    _, again = encode_texts(records, load_tokenizer("small"), captions=True, longest=500)
    assert again == len(records)  # it has no vocabulary that published ids could be of


def shuffle(record):
    middle = record.indexes[1:-1]
    random.Random(0).shuffle(middle)
    record.indexes[1:-1] = middle


def replace_one(record):
    lacking = (len(record.indexes) - len(record.words)) // 2  # [CLS], in front
    record.indexes[record.words.index("the") + lacking] += 1


def draw(record):
    record.indexes[1:-1] = [random.Random(i).randrange(200, 30_000) for i in range(len(record.indexes) - 2)]


def leave_one_out(record):
    del record.indexes[3]


def go_beyond(record):
    """A rare piece that may be in no other record."""
    record.indexes[5], record.words[4 if record.cap_words else 5] = 150_000, "zyzzyva"


def end_otherwise(record):
    record.indexes[-1] = 103


@pytest.mark.parametrize("damage", [shuffle, replace_one, draw, leave_one_out, go_beyond, end_otherwise])
@pytest.mark.parametrize("captioned", [True, False])
@pytest.mark.parametrize("knows_one", [True, False])
def test_ids_that_fit_no_vocabulary_are_refused_by_name(records, uncased, damage, captioned, knows_one):
    tokenizer = uncased if knows_one else load_tokenizer("small")
    damaged = dict(list(records.items())[:80])
    clip = next(c for c, r in damaged.items() if bool(r.cap_words) == captioned and r.words[20:].count("the") > 1)
    damaged[clip] = records[clip].model_copy(deep=True)
    damage(damaged[clip])
    with pytest.raises(ValueError, match=f"fit no vocabulary .*{clip}: "):
        encode_texts(damaged, tokenizer, captions=False, longest=500)


def test_one_text_of_a_published_vocabulary_is_known_without_others_of_it():
    def record(words, *ids, **caption):
        return Record(indexes=[101, *ids, 102], words=words.split(), **caption, **LABELS)

    caption = {"caps_index": [101, 1103, 1299, 102], "cap_words": ["the", "man"]}
    made = {"own_1": record("the man", 1996, 2158), "cased_1": record("to the man", 1106, 1103, 1299)}
    made["captioned_1"] = record("so the man is here", 2061, 1996, 2158, 2003, 2182, **caption)
    uncased = tokenizer_of({"the": 1996, "man": 2158, "to": 2000, "so": 2061, "is": 2003, "here": 2182})
    texts, again = encode_texts(made, uncased, captions=False, longest=500)
    assert again == 1
    assert texts["cased_1"].tolist() == [101, 2000, 1996, 2158, 102]
    texts, again = encode_texts(made, uncased, captions=True, longest=500)
    assert again == 2  # a caption's vocabulary need not be the text's
    assert texts["captioned_1"].tolist() == [101, 2061, 1996, 2158, 2003, 2182, 102, 1996, 2158, 102]
    made["none_1"] = record("to the man", 7777, 8888, 9999)
    with pytest.raises(ValueError, match=r"1 of 4 texts fit no vocabulary .*none_1: "):
        encode_texts(made, uncased, captions=False, longest=500)


def test_a_text_may_be_empty_or_too_long_and_have_a_caption():
    vocabulary = {"so": 5, "##me": 6, "some": 7, "man": 8}
    caption = {"caps_index": [101, 8, 102], "cap_words": ["man"]}
    made = {
        "own_1": Record(**TEXT, **LABELS),
        "own_2": Record(**TEXT, **caption, **LABELS),
        "empty_1": Record(indexes=[101, 102], words=[], **LABELS),
        "other_1": Record(indexes=[101, 55, 66, 102], words=["So", "##me"], **LABELS),
        "other_2": Record(indexes=[101, 55, 66, 55, 102], words=["So", "##me", "So"], **LABELS),
    }

    def texts(captions, longest):
        encoded, again = encode_texts(made, tokenizer_of(vocabulary), captions, longest)
        assert again == 2
        return {clip: text.tolist() for clip, text in encoded.items()}

    plain = texts(captions=False, longest=500)
    assert plain == {
        "own_1": [101, 5, 6, 102],
        "own_2": [101, 5, 6, 102],
        "empty_1": [101, 102],
        "other_1": [101, 7, 102],  # `##` glued: the word in one piece
        "other_2": [101, 7, 5, 102],
    }
    assert texts(captions=True, longest=500) == {**plain, "own_2": [101, 5, 6, 102, 8, 102]}
    cut = {clip: [*text[: min(2, len(text) - 1)], 102] for clip, text in plain.items()}
    assert texts(captions=True, longest=3) == cut


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"gory": None}, "gory: missing"),
        ({"gory": [1, 1]}, r"gory: should be \[1, 0\] \(no\) or \[0, 1\] \(yes\)"),
        ({"gory": YES}, "y is no, but yes are: gory"),
        ({"y": YES}, "y is yes, but yes are: none of the four"),
        ({"indexes": [101, -1, 102]}, "indexes.1: .*greater than or equal to 0"),
        ({"indexes": [101, "5", 102]}, "indexes.1: .*integer"),
        ({"words": "some"}, "words: .*list"),
    ],
)
def test_a_record_that_is_not_as_published_is_refused(tmp_path, changes, words):
    record = {key: value for key, value in {**TEXT, **LABELS, **changes}.items() if value is not None}
    path = tmp_path / "clips.json"
    path.write_text(json.dumps({"good_1": {**TEXT, **LABELS}, "bad_2": record}))
    with pytest.raises(ValueError, match=f"clips.json: clip bad_2: {words}"):
        read_annotations(path)


@pytest.mark.parametrize(
    ("text", "words"), [("{", "not JSON"), ("[]", "expected one object"), ('{"clip": {}}', "'clip' is no clip id")]
)
def test_a_file_that_is_no_annotations_is_refused(tmp_path, text, words):
    path = tmp_path / "clips.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=words):
        read_annotations(path)


def test_a_split_keeps_videos_whole_and_labels_alike(records):
    parts = split(records, SHARES, seed=0)
    assert sorted(clip for clips in parts.values() for clip in clips) == sorted(records)
    refuse_shared_videos(parts)
    assert parts == split(records, SHARES, seed=0) != split(records, SHARES, seed=1)
    labels = np.array([list(record.labels().values()) for record in records.values()]).mean(0)
    for part, clips in parts.items():
        assert len(clips) / len(records) == pytest.approx(SHARES[part], abs=0.04)
        found = np.mean([list(records[clip].labels().values()) for clip in clips], axis=0)
        assert np.abs(found - labels).max() < 0.12, dict(zip(TASKS, found, strict=True))
        assert (found > 0).all()
    assert split(records, {"train": 0.8, "validation": 0.2, "test": 0.0}, seed=0)["test"] == []


def test_both_forms_of_clip_ids_name_their_video():
    assert [video_of(clip) for clip in ("a_b-c_2", "-Auyj.03", "x.y.010")] == ["a_b-c", "-Auyj", "x.y"]
    with pytest.raises(ValueError, match="video -Auyj has clips in both train and test"):
        refuse_shared_videos({"train": ["-Auyj.03", "b_1"], "test": ["-Auyj_2"]})
    with pytest.raises(ValueError, match="1 videos cannot be split"):
        split({"a_1": Record(**TEXT, **LABELS)}, SHARES, 0)
