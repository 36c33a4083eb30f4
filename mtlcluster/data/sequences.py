"""Sequences of different lengths in one tensor."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Padded(NamedTuple):
    """A batch of sequences. Make it by `pad`, so that the mask is that of the lengths.

    Args:
        values: [N, L, …], L the longest length.
        mask: [N, L], bool; true where a sequence has a value.
        padding: what `values` are where the mask is false.
    """

    values: Tensor
    mask: Tensor
    padding: float = 0.0

    @property
    def lengths(self) -> Tensor:
        """The lengths of the sequences, [N], int64."""
        return self.mask.sum(1)


def pad(sequences: Sequence[Tensor], padding: float = 0.0) -> Padded:
    """Puts sequences into one tensor, as long as the longest of them.

    Args:
        sequences: N tensors [Lᵢ, …].
        padding: the value after the end of a sequence.

    Returns:
        Values [N, L, …] and their mask [N, L].

    Raises:
        ValueError: a sequence is empty.

    Example:
        >>> pad([torch.ones(2), torch.ones(3)]).mask
        tensor([[ True,  True, False],
                [ True,  True,  True]])
    """
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    if not int(lengths.min()):
        raise ValueError(f"sequence {int(lengths.argmin())} of the batch is empty")
    values = torch.nn.utils.rnn.pad_sequence(list(sequences), batch_first=True, padding_value=padding)
    return Padded(values, torch.arange(values.shape[1]) < lengths[:, None], padding)
