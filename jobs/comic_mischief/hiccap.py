"""HICCAP, the multimodal hierarchical-cross-attention model of Baharlouei et al., LREC-COLING 2024.

Shapes: N clips of a batch; L positions of a modality (tokens, segments, seconds); W, the width of the model and of its
text encoder. Masked positions reach no result: the LSTMs run over packed sequences, attention and pooling give them no
weight.
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from mtlcluster import MultiTaskModel, Padded

from .text import load_text_encoder

Modality = Literal["text", "video", "audio"]
VideoOrder = Literal["text_first", "audio_first"]

FEATURES = {"video": 1024, "audio": 128}  # I3D and VGGish
ATTENDED = {"text": ("video", "audio"), "audio": ("video", "text")}  # for video it is an option
CONCATENATED = ("text", "audio", "video")
ATTENTION_HEADS = 12
WITHOUT_TEXT = 768  # the width without a text encoder


class SegmentEncoder(nn.Module):
    """Features [N, L, F] → [N, L, W]: two bidirectional LSTM layers of `units` each, then a projection."""

    def __init__(self, features: int, width: int, units: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(features, units, num_layers=2, batch_first=True, bidirectional=True)
        self.norm = nn.Sequential(nn.Dropout(0.2), nn.LayerNorm(2 * units))
        self.projection = nn.Sequential(nn.Linear(2 * units, width), nn.LayerNorm(width), nn.Dropout(0.3))

    def forward(self, segments: Padded) -> Tensor:
        lengths = segments.lengths.cpu()  # packing needs them there; on a GPU this waits for the device
        packed = pack_padded_sequence(segments.values, lengths, batch_first=True, enforce_sorted=False)
        with torch.autocast("cpu", enabled=False):  # many CPUs have no LSTM in bf16 or fp16
            packed = self.lstm(packed)[0]
        states = pad_packed_sequence(packed, batch_first=True, total_length=segments.values.shape[1])[0]
        encoded: Tensor = self.projection(self.norm(states))
        return encoded


class CrossAttention(nn.Module):
    """Multi-head attention of one modality to another, without an output projection."""

    def __init__(self, width: int, heads: int = ATTENTION_HEADS, dropout: float = 0.1) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))

    def forward(self, queries: Tensor, others: Tensor, mask: Tensor) -> Tensor:
        """Attends from `queries` [N, L, W] to `others` [N, M, W] with their mask [N, M]. Returns [N, L, W]."""
        q, k, v = self._split(self.query(queries)), self._split(self.key(others)), self._split(self.value(others))
        dropout = self.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(q, k, v, mask[:, None, None, :], dropout)
        return attended.transpose(1, 2).flatten(2)

    def _split(self, projected: Tensor) -> Tensor:
        """[N, L, W] → [N, heads, L, W / heads]"""
        heads: Tensor = projected.unflatten(2, (self.heads, -1))
        return heads.transpose(1, 2)


class CrossAttentionBlock(nn.Module):
    """One modality attends to the others, one after the other, with the same projections. A residual ends the block."""

    def __init__(self, width: int, others: Sequence[str]) -> None:
        super().__init__()
        self.attention = CrossAttention(width)
        self.norms = nn.ModuleDict({other: nn.Sequential(nn.Dropout(0.2), nn.LayerNorm(width)) for other in others})

    def forward(self, own: Tensor, encoded: dict[str, Tensor], masks: dict[str, Tensor]) -> Tensor:
        hidden = own
        for other, norm in self.norms.items():
            hidden = norm(self.attention(hidden, encoded[other], masks[other]))
        return own + hidden


class AttentionPooling(nn.Module):
    """Attention pooling: Σᵢ aᵢ hᵢ with a = softmax(v · tanh(u(h))) over the unmasked positions, then a norm.

    It takes hidden states [N, L, W] with their mask [N, L], and gives [N, W].
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.u = nn.Linear(width, width)
        self.v = nn.Parameter(torch.empty(width).uniform_(-(width**-0.5), width**-0.5))
        self.norm = nn.Sequential(nn.Dropout(0.2), nn.LayerNorm(width))

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        scores = torch.tanh(self.u(hidden)) @ self.v
        weights = scores.masked_fill(~mask, -torch.inf).softmax(1)
        pooled: Tensor = self.norm((weights.unsqueeze(2) * hidden).sum(1))
        return pooled


class Trunk(nn.Module):
    """The trunk: clips → representations [N, W × number of modalities], of text, audio and video in this order."""

    def __init__(self, encoders: dict[str, nn.Module], width: int, video_order: VideoOrder) -> None:
        """
        Args:
            encoders: The encoders of the modalities that take part. A single modality has no block.
            width: W, the width of every encoder's output.
            video_order: The modality that video attends to first.
        """
        super().__init__()
        self.attended = {**ATTENDED, "video": ("text", "audio") if video_order == "text_first" else ("audio", "text")}
        self.encoders = nn.ModuleDict(encoders)
        self.poolings = nn.ModuleDict({name: AttentionPooling(width) for name in CONCATENATED if name in encoders})
        self.blocks = nn.ModuleDict()
        for name in reversed(CONCATENATED):
            others = [other for other in self.attended[name] if other in encoders]
            if name in encoders and others:
                self.blocks[name] = CrossAttentionBlock(width, others)

    def forward(self, clips: dict[str, Padded]) -> Tensor:
        masks = {name: clips[name].mask for name in self.encoders}
        encoded = {name: encoder(clips[name]) for name, encoder in self.encoders.items()}
        attended = encoded | {name: block(encoded[name], encoded, masks) for name, block in self.blocks.items()}
        return torch.cat([pool(attended[name], masks[name]) for name, pool in self.poolings.items()], dim=1)


class BatchNorm(nn.BatchNorm1d):
    """Batch norm that takes batches of one sample, which have no variance: they are normed as in evaluation."""

    def forward(self, input: Tensor) -> Tensor:
        if self.training and len(input) == 1:
            return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(input)


def task_head(width: int, classes: int = 2) -> nn.Sequential:
    """Makes a head: representations [N, width] → logits [N, classes]. Without activations, as published."""
    return nn.Sequential(
        nn.Linear(width, 200),
        BatchNorm(200),
        nn.Dropout(0.3),
        nn.Linear(200, 40),
        BatchNorm(40),
        nn.Dropout(0.3),
        nn.Linear(40, 20),
        nn.Linear(20, classes),
    )


class Hiccap(MultiTaskModel):
    """The HICCAP model: a trunk, and a head with two logits (no, yes) for each task."""

    trunk: Trunk

    def __init__(
        self,
        tasks: Sequence[str],
        text_encoder: str = "small",
        modalities: Sequence[Modality] = ("text", "video", "audio"),
        video_order: VideoOrder = "text_first",
        freeze: Sequence[Modality | Literal["trunk"]] = (),
        units: int = 512,
    ) -> None:
        """
        Args:
            tasks: The names of the tasks.
            text_encoder: See `load_text_encoder`.
            modalities: The modalities that take part.
            video_order: The modality that video attends to first; the published multi-task model has "audio_first".
            freeze: The parts that are not trained: the encoder of a modality, or with "trunk" all but the heads. Frozen
                modules compute as in evaluation, without dropout.
            units: The units of the LSTMs over video and audio, for each layer and direction.

        Raises:
            ValueError: An option has a wrong value.
        """
        check_options(modalities, video_order, freeze)
        width, encoders = WITHOUT_TEXT, dict[str, nn.Module]()
        if "text" in modalities:
            encoder = load_text_encoder(text_encoder)
            width, encoders["text"] = encoder.width, encoder
        if width % ATTENTION_HEADS:
            raise ValueError(f"text encoder '{text_encoder}': its width {width} is no multiple of {ATTENTION_HEADS}")
        encoders |= {name: SegmentEncoder(FEATURES[name], width, units) for name in FEATURES if name in modalities}
        trunk = Trunk(encoders, width, video_order)
        heads = {task: task_head(width * len(encoders)) for task in tasks}
        blocks = [f"trunk.blocks.{name}" for name in CONCATENATED if name in trunk.blocks]
        super().__init__(trunk, heads, last_shared_layer=blocks[0] if blocks else None)
        self.frozen = [trunk if part == "trunk" else encoders[part] for part in freeze]
        for module in self.frozen:
            module.requires_grad_(False)

    def train(self, mode: bool = True) -> "Hiccap":
        super().train(mode)
        for module in self.frozen:
            module.eval()
        return self


def check_options(modalities: Sequence[str], video_order: str, freeze: Sequence[str]) -> None:
    """Raises ValueError for an option with a wrong value."""
    if not modalities:
        raise ValueError("modalities: none is left; take at least one of text, video, audio")
    known = {
        "modalities": (modalities, CONCATENATED),
        "video_order": ([video_order], ("text_first", "audio_first")),
        "freeze": (freeze, ("trunk", *modalities)),
    }
    for option, (given, admitted) in known.items():
        if isinstance(given, str):
            raise ValueError(f"{option}: a list is expected, such as [{given}]")
        if wrong := [value for value in given if value not in admitted]:
            raise ValueError(f"{option}: '{wrong[0]}' is none of {', '.join(admitted)}")
