"""Loading the authors' checkpoints, whose keys are positions in a list of modules, into a model with named modules."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from .hiccap import Hiccap, Trunk

HEAD = "img_audio_text_linear"  # followed by _<task> for each head of the multi-task model
BINARY_TASK = "mischief"  # the task of the only head of the binary model, which has no such ending
SHOWN = 6


def load_pretrained(model: Hiccap, path: str | Path) -> None:
    """Copies the tensors of a checkpoint into the model, and prints what matched, what is missing, what is left over.

    Heads of another shape (with fewer modalities) are left over. Nothing but tensors is unpickled.

    Args:
        model: The model to fill.
        path: The checkpoint, {"model_state": {key: tensor}}.

    Raises:
        ValueError: The file is no such checkpoint, has no tensor of the trunk, or has some in another shape.
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
    """Reads the tensors of a checkpoint. Raises ValueError for any other file, and for values that are not finite."""
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ValueError(f"pretrained: there is no file {path}") from None
    except Exception as error:  # with a damaged file the unpickler may raise anything
        raise ValueError(
            f"{path}: is no checkpoint of tensors alone: damaged, or it holds objects that can only be loaded by "
            "running its own code, which is refused. If you trust it: torch.save({'model_state': torch.load(file, "
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
    """The model's name for a checkpoint's key; the key itself if the model has no such tensor."""
    head, _, rest = key.removeprefix("module.").partition(".")  # DataParallel puts it in front
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
    """Lists a few keys as they are; of many, the parts of the model with the number of keys in each."""
    if len(keys) <= SHOWN:
        return ", ".join(keys)
    depths = {"trunk": 3, "heads": 2, "features": 2}
    split = [key.split(".") for key in keys]
    counts = Counter(".".join(pieces[: depths.get(pieces[0], 1)]) for pieces in split)
    return ", ".join(f"{part} ({count})" for part, count in counts.items())


def short(names: Iterable[str]) -> str:
    """The first names, and how many more there are."""
    names = list(names)
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
