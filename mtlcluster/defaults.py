"""Defaults that have changed, and since when.

A run's identity is a hash of its options, and leaves out those that have their default. If a default changed, the same
hash would mean other results. So the hash leaves out what equals the FIRST default of an option, and this table holds
the first default of every option whose default is another one today.

sweep.yaml notes the version of the defaults with which a sweep was first submitted. When the sweep grows, its new runs
get the defaults of that version. So all its runs stay comparable.

Whoever changes a default, or the behaviour of what stands at its default, adds a line here and raises NEWEST. Changed
behaviour without an option gets an option.
"""

from dataclasses import dataclass
from typing import Any

FIRST = 1
NEWEST = 2  # the version of today's defaults; before this file was there, it was 1


@dataclass(frozen=True)
class Changed:
    """An option whose default has changed.

    Attributes:
        first: The first default.
        since: The first version that has today's default.
    """

    first: Any
    since: int


# By the section of a run's configuration, or by slot and name of a method, or by slot and * for an option that many
# methods of the slot have; and by the name of the option.
CHANGED: dict[str, dict[str, Changed]] = {
    "best": {"value": Changed("mean_loss", 2)},
    "weighting.*": {"layer": Changed(None, 2)},  # null: the layer registered last
    "gradient.*": {"layer": Changed(None, 2)},
    "weighting.uncertainty": {"lr": Changed(None, 2)},  # null: the model's rate
    "weighting.imtl_l": {"lr": Changed(None, 2)},
}


def first_defaults(section: str) -> dict[str, Any]:
    """The first defaults of the options of a section whose defaults have changed.

    Args:
        section: Such as "best", or "weighting.uncertainty".
    """
    return defaults_before(section, FIRST)


def defaults_before(section: str, version: int) -> dict[str, Any]:
    """The defaults that differed from today's in a version of the defaults.

    Args:
        section: Such as "best", or "weighting.uncertainty".
        version: From 1 to NEWEST. For NEWEST there are none.
    """
    return {name: changed.first for name, changed in CHANGED.get(section, {}).items() if changed.since > version}


def kept(version: int) -> str:
    """The options whose defaults differed in a version, as a list for a sentence, such as `best.value mean_loss`."""
    found = [(s, name, first) for s in CHANGED for name, first in defaults_before(s, version).items()]
    return ", ".join(
        f"{section.removesuffix('.*')}.{name} {'null' if first is None else first}" for section, name, first in found
    )
