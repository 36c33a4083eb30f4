"""Refuses methods that have no meaning together or with an option, with the reason."""

from typing import Any

from mtlcluster.methods.source import OF_GRAMIANS, Method

ONE_A_STEP = ("single", "round_robin", "sequential")
# Weightings that compare the tasks of a step, by the weighting that each one is when a step has one task.
WITHIN_A_STEP = {
    "rlw": "equal", "gls": "equal", "gradnorm": "equal", "famo": "equal", "stch": "scale_invariant",
}  # fmt: skip


def refuse_meaningless(full: dict[str, dict[str, Any]], methods: dict[str, Method]) -> None:
    """Raises ValueError, with the reason, if the slots of a checked method have no meaning together."""
    schedule, weighting, gradient = full["schedule"]["name"], full["weighting"]["name"], methods["gradient"]
    if _one_a_step(full["schedule"]):
        alone = f"schedule '{schedule}' trains one task a step"
        if gradient.constants["needs"] != "nothing":
            raise ValueError(f"{alone}: gradient '{gradient.label}' has nothing to bring together; use sum")
        if weighting in WITHIN_A_STEP:
            same = WITHIN_A_STEP[weighting]
            raise ValueError(f"{alone}: weighting '{weighting}' has no other task to weigh it against; use {same}")
    _refuse_layers(full, methods)
    if schedule == "single" and weighting == "dwa":
        raise ValueError("schedule 'single' trains one task only: weighting 'dwa' has no other to compare it with")
    if schedule == "sequential" and (order := full["schedule"]["order"]) and len(set(order)) < len(order):
        raise ValueError(f"schedule 'sequential': order names a task twice: {', '.join(order)}")


def _refuse_layers(full: dict[str, dict[str, Any]], methods: dict[str, Method]) -> None:
    """Refuses a layer that nothing looks at, and two different ones: a step looks at one layer."""
    at_last, of_gradient = full["gradient"].get("at") == "last_layer", full["gradient"].get("layer")
    if of_gradient is not None and not at_last:
        raise ValueError(f"gradient '{methods['gradient'].label}': layer has a meaning with at: last_layer only")
    if at_last and "layer" in methods["weighting"].options.model_fields:
        of_weighting = full["weighting"]["layer"]
        if of_weighting != of_gradient:
            both = f"weighting '{methods['weighting'].label}' and gradient '{methods['gradient'].label}'"
            raise ValueError(f"{both} look at one layer, found {of_weighting} and {of_gradient}: give both the same")


def _one_a_step(schedule: dict[str, Any]) -> bool:
    stages = schedule.get("stages") if schedule["name"] == "curriculum" else None
    by_hand = isinstance(stages, dict) and all(len(tasks) == 1 for tasks in stages.values())
    return by_hand or schedule["name"] in ONE_A_STEP


def refuse_compiled(full: dict[str, dict[str, Any]]) -> None:
    """Raises ValueError if a method has to look inside a compiled model."""
    if full["gradient"].get("at") == "representation":
        raise ValueError("compile hides the representation, which gradient.at asks for; use at: shared or last_layer")


def why_not(method: Method, option: str) -> str | None:
    """Why a gradient method has no option `at`, `every` or `layer`; None for other options."""
    if option not in OF_GRAMIANS or method.slot != "gradient":
        return None
    if method.constants["needs"] == "jacobian":
        return f"it works on the gradients themselves, of all shared parameters and at every step: no option '{option}'"
    return f"it takes one plain backward, without gradients of each task: no option '{option}'"
