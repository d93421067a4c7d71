"""Options of the benches that play scenarios before real processes, round by round."""

from typing import Annotated, TypeAlias

import typer

Rounds: TypeAlias = Annotated[int, typer.Option(min=1, help="Rounds; medians are taken over them.")]
Scale: TypeAlias = Annotated[
    float, typer.Option(min=0.0001, max=1.0, help="Share of the full number of requests.")
]
