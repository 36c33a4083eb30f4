"""The authors' checkpoints, whose keys are positions in a list of modules, read into the model's named ones."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from .hiccap import Hiccap, Trunk

HEAD = "img_audio_text_linear"  # … followed by _<task>; alone, in the binary model, it is the head of:
BINARY_TASK = "mischief"
SHOWN = 6


def load_pretrained(model: Hiccap, path: str | Path) -> None:
    """Copies the tensors of `path` ({"model_state": {key: tensor}}) into the model, and prints what matched, what the
    model has beyond them, and what was left over. Heads of another shape (with fewer modalities) are left over.

    Nothing but tensors is ever unpickled. Raises ValueError for a file that is no such checkpoint, that has none of the
    trunk's tensors, or some in another shape.
    """
    state, own = read_state(Path(path)), model.state_dict()
    names = {key: own_name(key, model.trunk) for key in state}
    found = {names[key]: tensor for key, tensor in state.items() if names[key] in own}
    other = {name: tensor for name, tensor in found.items() if tensor.shape != own[name].shape}
    if wrong := [name for name in other if not name.startswith("heads.")]:
        shapes = [f"{name} {list(other[name].shape)} instead of {list(own[name].shape)}" for name in wrong]
        raise ValueError(f"{path}: another shape than the model's (another text encoder?): {short(shapes)}")
    matched = {name: tensor for name, tensor in found.items() if name not in other}
    if not any(name.startswith("trunk.") for name in matched):
        raise ValueError(
            f"{path}: none of its {len(state)} tensors is the trunk's: expected features.N.…, found {short(state)}"
        )
    model.load_state_dict(matched, strict=False)
    print(f"pretrained {path}: {len(matched)} of the model's {len(own)} tensors")
    for what, keys in {
        "matched": matched,
        "missing (as they were initialized)": [name for name in own if name not in matched],
        "left over": [key for key in state if names[key] not in matched],
    }.items():
        print(f"  {what}: {len(keys)}{': ' if keys else ''}{by_part(list(keys))}", flush=True)


def read_state(path: Path) -> dict[str, Tensor]:
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ValueError(f"pretrained: there is no file {path}") from None
    except Exception as error:  # whatever a damaged file brings the unpickler to raise
        raise ValueError(
            f"{path}: is no checkpoint of tensors alone: damaged, or it holds objects that only running its own code "
            "could load, which is refused. Where you trust it: torch.save({'model_state': torch.load(file, "
            "weights_only=False)['model_state']}, new_file)"
        ) from error
    state = checkpoint.get("model_state") if isinstance(checkpoint, dict) else None
    if not isinstance(state, dict) or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        has = short(map(str, checkpoint)) if isinstance(checkpoint, dict) else type(checkpoint).__name__
        raise ValueError(f"{path}: a dictionary with 'model_state' is expected, which names tensors; found {has}")
    if broken := [key for key, tensor in state.items() if not tensor.isfinite().all()]:
        raise ValueError(f"{path}: not all values are finite: {short(broken)}")
    return state


def own_name(key: str, trunk: Trunk) -> str:
    """The model's name for a checkpoint's key; the key itself where the model has nothing of the kind."""
    head, _, rest = key.removeprefix("module.").partition(".")  # which DataParallel puts in front
    if head == "features":
        number, _, rest = rest.partition(".")
        module = dict(enumerate(modules_in_order(trunk))).get(int(number)) if number.isdecimal() else None
        return f"trunk.{module}.{rest}" if module else key
    if head == HEAD or head.startswith(f"{HEAD}_"):
        return f"heads.{head.removeprefix(HEAD).removeprefix('_') or BINARY_TASK}.{rest}"
    return key


def modules_in_order(trunk: Trunk) -> list[str]:
    """The trunk's modules in the order of the checkpoints' `features`."""
    return [
        "encoders.text.model",
        *(f"encoders.{name}.{part}" for name in ("video", "audio") for part in ("lstm", "norm")),
        *(f"encoders.{name}.projection" for name in ("audio", "video")),
        *(
            f"blocks.{name}.{part}"
            for name in ("text", "audio", "video")
            for part in ("attention", *(f"norms.{other}" for other in trunk.attended[name]))
        ),
        *(f"poolings.{name}{part}" for name in ("text", "audio", "video") for part in ("", ".norm")),
    ]


def by_part(keys: Sequence[str]) -> str:
    """A few keys as they are; many by the part of the model that they belong to, with how many."""
    if len(keys) <= SHOWN:
        return ", ".join(keys)
    depths = {"trunk": 3, "heads": 2, "features": 2}
    split = [key.split(".") for key in keys]
    counts = Counter(".".join(pieces[: depths.get(pieces[0], 1)]) for pieces in split)
    return ", ".join(f"{part} ({count})" for part, count in counts.items())


def short(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
