"""What padding costs: the step time of the full-size HICCAP (BERT-base's shape, random weights) over a shuffled epoch
batched by similar length, and over the same clips padded to 500 tokens, 36 video and 63 audio segments.

    python tests/benchmarks/hiccap.py [ANNOTATIONS.json]

Lengths of texts are those of the annotations, or, without, 282 from 2 to 236 tokens (mean 119); those of features are
drawn from 8 to 36 and from 15 to 63. A step is forward, the losses of five heads, backward and Adam, with batches of 4
on 2 threads. Measured are every SHARE-th batch of the epoch, from the shortest to the longest, and a few padded ones,
which all take the same time.
"""

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor
from transformers import BertConfig

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from jobs.comic_mischief.hiccap import Hiccap  # noqa: E402
from mtlcluster import Padded, Task, pad  # noqa: E402
from mtlcluster.training.batches import epoch_batches  # noqa: E402

THREADS, BATCH, SHARE, PADDED_STEPS = 2, 4, 6, 3
TASKS = [Task.binary(name) for name in ("mischief", "mature", "gory", "slapstick", "sarcasm")]
LONGEST = {"text": 500, "video": 36, "audio": 63}
generator = torch.Generator().manual_seed(0)


def text_lengths(annotations: Path | None) -> Tensor:
    if annotations:
        return torch.tensor([len(record["indexes"]) for record in json.loads(annotations.read_text()).values()])
    return torch.linspace(2, 236, 282).long()


def clip(tokens: int) -> dict[str, Tensor]:
    video, audio = (int(torch.randint(*span, (), generator=generator)) for span in ((8, 37), (15, 64)))
    return {
        "text": torch.randint(1000, 30000, (tokens,), generator=generator),
        "video": torch.randn(video, 1024, generator=generator),
        "audio": torch.randn(audio, 128, generator=generator),
    }


def batch(clips: list[dict[str, Tensor]], longest: bool) -> dict[str, Padded]:
    """Padded to the longest of the batch, or to the longest that there may be."""
    inputs = {}
    for name, length in LONGEST.items():
        padded = pad([one[name] for one in clips])
        if longest:
            more = length - padded.values.shape[1]
            gap = [0] * 2 * (padded.values.ndim - 2)
            values = torch.nn.functional.pad(padded.values, [*gap, 0, more])
            padded = padded._replace(values=values, mask=torch.nn.functional.pad(padded.mask, [0, more]))
        inputs[name] = padded
    return inputs


def step(model: Hiccap, optimizer: torch.optim.Optimizer, inputs: dict[str, Padded]) -> float:
    """Seconds."""
    targets = torch.arange(len(inputs["text"].mask)) % 2
    start = time.perf_counter()
    outputs = model(inputs, [task.name for task in TASKS])
    torch.stack([task.loss(outputs[task.name], targets) for task in TASKS]).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    return time.perf_counter() - start


def full_size() -> Hiccap:
    with tempfile.TemporaryDirectory() as folder:
        BertConfig().save_pretrained(folder)
        return Hiccap([task.name for task in TASKS], folder, video_order="audio_first")


def main(annotations: Path | None) -> None:
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    lengths = text_lengths(annotations)
    clips = [clip(int(length)) for length in lengths]
    epoch = [part.tolist() for part in epoch_batches(len(lengths), BATCH, seed=0, epoch=0, lengths=lengths)]
    print(f"{len(clips)} texts of {lengths.float().mean():.0f} tokens (longest {lengths.max()}): {len(epoch)} batches")
    model = full_size().train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1.5e-5, fused=True)
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.0f} M parameters, batches of {BATCH}, {THREADS} threads")
    by_length = sorted(epoch, key=lambda part: int(lengths[part].max()))
    similar = [batch([clips[i] for i in part], longest=False) for part in by_length[SHARE // 2 :: SHARE]]
    padded = [batch([clips[i] for i in part], longest=True) for part in epoch[:PADDED_STEPS]]
    step(model, optimizer, similar[0])  # the first allocates
    short, long = [], []
    for i, inputs in enumerate(similar):  # taking turns, so that what else the machine does meets both
        short.append(step(model, optimizer, inputs))
        if i % (len(similar) // PADDED_STEPS) == 0 and len(long) < PADDED_STEPS:
            long.append(step(model, optimizer, padded[len(long)]))
    for what, seconds in (("similar lengths", short), ("padded to 500/36/63", long)):
        spread = f"{min(seconds):.2f} to {max(seconds):.2f} s in {len(seconds)} steps"
        print(f"{what}: {statistics.mean(seconds):.2f} s a step ({spread})")
    print(f"{statistics.mean(long) / statistics.mean(short):.1f} times faster by similar length")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
