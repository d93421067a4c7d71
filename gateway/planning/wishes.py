"""What both commands that plan are told about levels and costs, as written on the command line."""

from collections.abc import Mapping, Sequence
from typing import Annotated, TypeAlias

import typer

from endpoints.allocation.levels import PRESETS, Scheme, scheme_from_labels

Levels: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--level", help="Own levels, broad to narrow: NAME=LABEL; may be repeated."),
]
Costs: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--cost", help="What a device costs an hour: CLASS=COST; may be repeated. [1 each]"
    ),
]
Cheapest: TypeAlias = Annotated[
    bool, typer.Option("--cheapest", help="Of alternatives, the cheapest, not the first.")
]


class WishError(ValueError):
    """What was asked can't be planned as it stands; the message says what to mend."""


def scheme_named(
    schemes: Mapping[str, Scheme], name: str | None, levels: Sequence[str]
) -> Scheme | None:
    """The levels that are asked for: own ones, a preset, or a topology of the cluster by name.

    Asked for nothing, the cluster's only topology; None: whatever the nodes' labels show.
    """
    if levels:
        if name is not None:
            raise WishError("--topology and --level exclude each other")
        return scheme_from_labels("own", [_pair(one, "--level", "NAME=LABEL") for one in levels])
    if name is None:
        return next(iter(schemes.values())) if len(schemes) == 1 else None
    found = schemes.get(name) or PRESETS.get(name)
    if found is None:
        known = ", ".join([*PRESETS, *schemes])
        raise WishError(f"--topology: there is no {name!r}; there are {known}")
    return found


def costs_of(written: Sequence[str]) -> dict[str, float]:
    """What a device of a class costs an hour, from CLASS=COST."""
    found = {}
    for one in written:
        name, value = _pair(one, "--cost", "CLASS=COST")
        try:
            found[name] = float(value)
        except ValueError:
            raise WishError(f"--cost {one}: {value!r} is no number") from None
    return found


def _pair(written: str, option: str, form: str) -> tuple[str, str]:
    name, mark, value = written.partition("=")
    if not (name and mark and value):
        raise WishError(f"{option} {written}: write {form}")
    return name, value
