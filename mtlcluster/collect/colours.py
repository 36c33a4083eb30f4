"""Colours and dashes: a method has the same ones in every figure. The colours are safe for the colour-blind."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.colors import to_rgb

from mtlcluster.collect.settings import Setting

# Okabe and Ito's colours without yellow, which is hard to see on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKS = "osD^vP"
DASHES: tuple[Any, ...] = ("-", (0, (4, 1.3)), (0, (1, 1)), (0, (5, 1, 1, 1)))
EQUAL, SINGLE = "#000000", "#808080"
OTHERS, BEHIND = "#C8C8C8", "#B4B4B4"  # lines and dots of settings that are not in front
SETTINGS_IN_COLOUR = 10  # with more, only the best ones and the baselines have a colour; the others are grey
BEST_IN_COLOUR = 6


@dataclass(frozen=True)
class Look:
    """The look of a setting in all figures.

    Attributes:
        colour: The colour of its lines and dots.
        dash: The dashes of its lines.
        mark: The mark of its mean, where methods are dots.
        in_front: True if it has a colour, a band and its own entry in the legend.
    """

    colour: Any
    dash: Any
    mark: str
    in_front: bool


BEHIND_OTHERS = Look(OTHERS, "-", "o", False)


def choose_looks(settings: Sequence[Setting], methods: Sequence[str], in_front: Sequence[bool]) -> list[Look]:
    """One look for each setting. Settings of one method share its colour and differ in dashes and lightness.

    If there is only one method, each setting has its own colour.

    Args:
        settings: The settings.
        methods: The name of the method of each.
        in_front: Whether each is in front, see `best_in_front`.
    """
    groups = list(methods) if len({*methods}) > 1 else [setting.label for setting in settings]
    coloured = sorted({g for g, s, front in zip(groups, settings, in_front, strict=True) if front and not _grey(g, s)})
    seen: dict[str, int] = {}
    made = []
    for setting, group, front in zip(settings, groups, in_front, strict=True):
        if not front:
            made.append(BEHIND_OTHERS)
            continue
        variant = seen[group] = seen.get(group, -1) + 1
        if _grey(group, setting):
            place, (colour, offset) = 0, (SINGLE, 1) if setting.single else (EQUAL, 0)
        else:
            place = coloured.index(group)
            colour, offset = COLOURS[place % len(COLOURS)], place // len(COLOURS)
        lighter = _lighter(colour, 0.35 * (variant // len(DASHES)))
        mark = MARKS[(place + variant + offset) % len(MARKS)]
        made.append(Look(lighter, DASHES[(variant + offset) % len(DASHES)], mark, True))
    return made


def plain_looks(settings: Sequence[Setting]) -> list[Look]:
    """The looks without a search: the best settings are in front."""
    return choose_looks(settings, [setting.method for setting in settings], best_in_front(settings))


def best_in_front(settings: Sequence[Setting]) -> list[bool]:
    """For each setting, true if it is in front. Settings come in the order of `group_runs`, the best first."""
    if len(settings) <= SETTINGS_IN_COLOUR:
        return [True] * len(settings)
    others = [i for i, setting in enumerate(settings) if not setting.baseline]
    chosen = set(others[:BEST_IN_COLOUR])
    for kind in (True, False):
        chosen |= set([i for i, s in enumerate(settings) if s.baseline and s.single is kind][:1])
    return [i in chosen for i in range(len(settings))]


def _grey(group: str, setting: Setting) -> bool:
    """Baselines are black or grey, unless settings of one method have a colour each."""
    return setting.baseline and group == setting.method


def _lighter(colour: str, share: float) -> tuple[float, ...]:
    return tuple(part + (1 - part) * min(share, 0.7) for part in to_rgb(colour))
