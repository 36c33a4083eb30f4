"""Text encoders and their tokenizers by name: `small`, or any that transformers' Auto classes can load."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mtlcluster import Padded

SMALL = "small"
PIECES = 30522  # of `small`: as many as of BERT-uncased, so that its ids fit, too
FIRST_PIECE = 1000  # smaller ids are special tokens, or unused in BERT's vocabulary
WEIGHTS = ("*.safetensors", "*.bin")


@dataclass(frozen=True)
class Tokenizer:
    """The tokenizer of a text encoder.

    Attributes:
        vocabulary: The id of each piece; None if words are hashed.
        pad, cls, sep, unknown: The ids of the special tokens.
        encode: Encodes a text as ids, without special tokens.
    """

    vocabulary: dict[str, int] | None
    pad: int
    cls: int
    sep: int
    unknown: int
    encode: Callable[[str], list[int]]


def load_tokenizer(name: str) -> Tokenizer:
    """Loads the tokenizer of the text encoder `name`, without any download. Raises ValueError if there is none."""
    if name == SMALL:
        return Tokenizer(None, pad=0, cls=101, sep=102, unknown=100, encode=hash_words)
    tokenizer = _from_this_machine(name, "AutoTokenizer")
    special = {
        "pad": tokenizer.pad_token_id,
        "cls": tokenizer.cls_token_id,
        "sep": tokenizer.sep_token_id,
        "unknown": tokenizer.unk_token_id,
    }
    if lacking := [token for token, id in special.items() if id is None]:
        raise ValueError(f"text encoder '{name}': its tokenizer has no {', '.join(lacking)} token, as BERT's has")
    encode = partial(tokenizer.encode, add_special_tokens=False, verbose=False)  # unlike a closure, it can be pickled
    return Tokenizer(tokenizer.get_vocab(), **special, encode=encode)


def hash_words(text: str) -> list[int]:
    """Encodes words, in lower case, as ids that are hashes: for an encoder without a vocabulary."""
    span = PIECES - FIRST_PIECE
    return [FIRST_PIECE + zlib.crc32(word.encode()) % span for word in text.lower().split()]


class TextEncoder(nn.Module):
    """A text encoder: ids [N, L] → hidden states [N, L, width].

    Attributes:
        width: The width of the hidden states.
        positions: The most tokens of a text.
    """

    width: int
    positions: int

    def forward(self, text: Padded) -> Tensor:
        if text.values.shape[1] > self.positions:
            raise ValueError(
                f"a text of {text.values.shape[1]} tokens, but the text encoder takes at most {self.positions}: "
                "lower the data's maximum of tokens"
            )
        return self.encode(text)

    def encode(self, text: Padded) -> Tensor:
        """Encodes texts that are not too long."""
        raise NotImplementedError


class SmallEncoder(TextEncoder):
    """A small transformer with learned positions, trained from scratch: for machines without pretrained weights."""

    def __init__(self, width: int = 96, layers: int = 2, positions: int = 512) -> None:
        super().__init__()
        self.width, self.positions = width, positions
        self.pieces = nn.Embedding(PIECES, width)
        self.places = nn.Embedding(positions, width)
        layer = nn.TransformerEncoderLayer(width, 12, 4 * width, activation="gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, layers, nn.LayerNorm(width), enable_nested_tensor=False)
        for embedding in (self.pieces, self.places):
            nn.init.normal_(embedding.weight, std=0.02)

    def encode(self, text: Padded) -> Tensor:
        places = torch.arange(text.values.shape[1], device=text.values.device)
        hidden: Tensor = self.layers(self.pieces(text.values) + self.places(places), src_key_padding_mask=~text.mask)
        return hidden


class TransformersEncoder(TextEncoder):
    """A model of transformers: gives its last hidden states. Its pooler is removed, since nothing here uses it."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.width = model.config.hidden_size
        self.positions = model.config.max_position_embeddings
        model.pooler = None
        self.model = model

    def encode(self, text: Padded) -> Tensor:
        hidden: Tensor = self.model(input_ids=text.values, attention_mask=text.mask).last_hidden_state
        return hidden


def load_text_encoder(name: str) -> TextEncoder:
    """Loads a text encoder, without any download.

    A folder with a configuration but without weights gives random weights, and a message: for a checkpoint that has its
    own.

    Args:
        name: `small`, a folder, or a name in transformers' cache.

    Raises:
        ValueError: There is no such encoder; the message says what to do.
    """
    if name == SMALL:
        return SmallEncoder()
    folder = Path(name).expanduser()
    if folder.is_dir() and not any(any(folder.glob(pattern)) for pattern in WEIGHTS):
        config = _from_this_machine(name, "AutoConfig")
        print(f"text encoder {name}: a configuration without weights: it starts from random ones", flush=True)
        return TransformersEncoder(_transformers().AutoModel.from_config(config, attn_implementation="sdpa"))
    options = {"dtype": torch.float32, "attn_implementation": "sdpa"}
    return TransformersEncoder(_from_this_machine(name, "AutoModel", **options))


def _transformers() -> Any:
    try:
        transformers: Any = import_module("transformers")
    except ImportError:
        raise ValueError(
            f"text encoders other than '{SMALL}' need transformers: pip install 'mtlcluster[text]'"
        ) from None
    transformers.utils.logging.disable_progress_bar()
    return transformers


def _from_this_machine(name: str, kind: str, **options: Any) -> Any:
    """Loads from a folder or the cache. It never asks a model hub: compute nodes are often offline."""
    transformers = _transformers()
    folder = Path(name).expanduser()
    place = str(folder) if folder.is_dir() else name
    try:
        return getattr(transformers, kind).from_pretrained(place, local_files_only=True, **options)
    except (OSError, ValueError) as error:
        cause = str(error).splitlines()[0]
    if folder.is_dir():
        raise ValueError(f"text encoder '{name}': {kind} cannot load this folder: {cause}")
    if name.startswith(("/", ".", "~")):
        raise ValueError(f"text encoder '{name}': there is no such folder (seen from {Path.cwd()})")
    fetch = "from transformers import AutoModel, AutoTokenizer as T; "
    fetch += f"AutoModel.from_pretrained('{name}'); T.from_pretrained('{name}')"
    raise ValueError(
        f"text encoder '{name}' is not on this machine: neither '{SMALL}', nor a folder, nor in transformers' cache, "
        f'and jobs do not download. Where there is internet: python -c "{fetch}" (the cache is ~/.cache/huggingface '
        "or HF_HOME: have it where the nodes see it); or name a folder that holds it"
    )
