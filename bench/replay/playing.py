"""Playing the cases of a bench in several processes, and what its command says on the way."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import typer
from rich.console import Console

from bench.replay.parallel import WorkerError, run_all
from bench.replay.workloads import TraceError

C = TypeVar("C")
R = TypeVar("R")


def play_cases(
    make: Callable[[], Sequence[C]], play: Callable[[C], R], processes: int, console: Console
) -> list[R]:
    """What came of every case that ``make`` gives, as they ended.

    A trace or number that is no good is an error of the command line; a process that ends in the
    middle ends the command with exit code 2.
    """
    played: list[R] = []
    try:
        cases = make()
        with console.status("replaying") as status:
            for case, one in run_all(cases, play, processes):
                played.append(one)
                status.update(f"{len(played)} of {len(cases)}: {case}")
    except (TraceError, ValueError) as error:
        raise typer.BadParameter(str(error)) from None
    except WorkerError as error:
        console.print(f"[red]error:[/red] {error}")
        raise typer.Exit(2) from None
    return played
