"""Sequences of different lengths, in one tensor."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Padded(NamedTuple):
    """A batch of sequences. values: [N, L, …]; mask: [N, L], bool, true where a value of a sequence is; everywhere else
    values are `padding`. Made by `pad`, so that a mask comes from the lengths and from nowhere else.
    """

    values: Tensor
    mask: Tensor
    padding: float = 0.0

    @property
    def lengths(self) -> Tensor:
        """[N], int64."""
        return self.mask.sum(1)


def pad(sequences: Sequence[Tensor], padding: float = 0.0) -> Padded:
    """The sequences [Lᵢ, …] side by side, as long as the longest of them. Raises ValueError for an empty sequence."""
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    if not int(lengths.min()):
        raise ValueError(f"sequence {int(lengths.argmin())} of the batch is empty")
    values = torch.nn.utils.rnn.pad_sequence(list(sequences), batch_first=True, padding_value=padding)
    return Padded(values, torch.arange(values.shape[1]) < lengths[:, None], padding)
