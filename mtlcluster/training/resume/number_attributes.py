"""Numbers that a model's modules keep in plain attributes, such as `self.calls = 0`: no checkpoint has them."""

from torch import Tensor, nn

Numbers = dict[str, int | float | tuple[Tensor, int]]


def numbers_in(model: nn.Module) -> Numbers:
    """Finds them, except in torch's own layers and in modules that have a `get_extra_state`.

    Returns:
        Numbers by name; a tensor comes with the count of its changes in place.
    """
    found: Numbers = {}
    for place, module in model.named_modules():
        kind = type(module)
        if kind.__module__.startswith("torch.") or kind.get_extra_state is not nn.Module.get_extra_state:
            continue
        for name, value in vars(module).items():
            path = f"{place}.{name}" if place else name
            if isinstance(value, Tensor):
                found[path] = value, value._version
            elif type(value) in (int, float):
                found[path] = value
    return found


def notes_on_changes(before: Numbers, after: Numbers) -> list[str]:
    """Returns a sentence on the numbers that a step has changed, if any. New ones are taken for temporary values."""
    changed = [name for name in before if name in after and not _is_same(before[name], after[name])]
    if not changed:
        return []
    return [
        f"training changes {', '.join(changed)} of the model, which no checkpoint keeps: after a stop the run goes on "
        "with the first value again; use register_buffer, or get_extra_state and set_extra_state"
    ]


def _is_same(before: object, after: object) -> bool:
    if isinstance(before, tuple) and isinstance(after, tuple):
        return before[0] is after[0] and before[1] == after[1]
    return type(before) is type(after) and (before == after or before != before)
