"""Data that cannot be taken sample by sample are refused in one sentence, where the problem is made."""

import pytest
import torch
from torch import nn
from torch.utils.data import ChainDataset, DataLoader, Dataset, IterableDataset

from mtlcluster import MultiTaskModel, Problem, Task, TensorData

DATA = TensorData(torch.randn(8, 4), {"a": torch.randn(8)})


class Stream(IterableDataset):
    def __iter__(self):
        yield DATA[0]


class StreamWithLength(Stream):
    def __len__(self):
        return 8

    def __getitem__(self, i):
        return DATA[i]


class NoLength(Dataset):
    def __getitem__(self, i):
        return DATA[i]


KINDS = {
    "the IterableDataset Stream": Stream, "the IterableDataset StreamWithLength": StreamWithLength,
    "the IterableDataset ChainDataset": lambda: ChainDataset([Stream()]), "a NoLength": NoLength,
    "a DataLoader": lambda: DataLoader(DATA), "a generator": lambda: iter(DATA[i] for i in range(8)),
}  # fmt: skip


def problem(**data):
    model = MultiTaskModel(nn.Linear(4, 4), {"a": nn.Linear(4, 1)})
    return Problem(model, [Task.regression("a")], **{"train": DATA, "validation": DATA, **data})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_it_is_refused(part, kind):
    with pytest.raises(ValueError, match=f"{part} should be a map-style dataset, with __len__ .*, found {kind}"):
        problem(**{part: KINDS[kind]()})


def test_nothing_is_no_data_to_train_on():
    with pytest.raises(ValueError, match=r"validation should be a map-style dataset.*, found nothing"):
        problem(validation=None)


def test_a_plain_list_of_samples_is_one():
    assert len(problem(train=[DATA[i] for i in range(8)]).train) == 8
