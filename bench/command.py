"""The command `inferway bench`, also as ``python -m bench``."""

from pathlib import Path
from typing import Annotated

import typer
import uvloop
from msgspec import to_builtins
from rich.console import Console

from bench import decide as decisions
from bench import events as following
from bench import exactness as comparing
from bench import index as indexing
from bench.extproc import comparison as asking
from bench.extproc import measure as asking_measure
from bench.extproc import scenarios as asking_scenarios
from bench.overhead import comparison, gateways, scenarios, tables
from bench.overhead.measure import Servers
from bench.results import Results, figures_table, number, print_checks, results, write_json
from routing.policies import DEFAULT_POLICY, POLICIES

app = typer.Typer(
    help="Measure what the gateway costs, and check it against its bars.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

_WIDTH = 140
Json = Annotated[
    Path | None, typer.Option("--json", help="Write everything to this file.", dir_okay=False)
]


@app.callback()
def bench() -> None:
    """Measure what the gateway costs, and check it against its bars."""


def _console() -> Console:
    """As wide as the tables when nobody's terminal says otherwise."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_WIDTH)


def _conclude(found: Results, file: Path | None, console: Console) -> None:
    """Print the checks, write the file; exit code 1 when a check failed."""
    print_checks(found, console)
    if file is not None:
        write_json(found, file)
    if not found.ok:
        raise typer.Exit(1)


@app.command()
def overhead(
    *,
    scenario: Annotated[
        list[str] | None,
        typer.Option(help="Only this scenario, or those that begin so; may be repeated."),
    ] = None,
    gateway: Annotated[
        list[str] | None, typer.Option(help="Only this gateway; may be repeated.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; medians are taken over them.")] = 3,
    scale: Annotated[
        float, typer.Option(min=0.0001, max=1.0, help="Share of the full number of requests.")
    ] = 1.0,
    servers: Annotated[int, typer.Option(min=1, help="Model servers behind each gateway.")] = 4,
    json: Json = None,
) -> None:
    """Compare gateways on the same work: CPU, latency and memory.

    Every round starts each gateway anew before the same servers. Rivals come with
    the optional dependencies "rivals"; one that is not there is named with the reason.
    """
    console = _console()
    try:
        names = gateways.chosen(gateway or ())
        wanted = scenarios.chosen(scenario or ())
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    limit = scenarios.descriptor_limit()
    full = [one.scaled(scale) for one in wanted]
    plan = [scenarios.fit_descriptors(one, limit) for one in full]
    notes = [
        f"{fitted.name}: {fitted.connections:,} of {asked.connections:,} connections, "
        f"as a process may have only {limit:,} descriptors"
        for asked, fitted in zip(full, plan, strict=True)
        if asked != fitted
    ]
    with Servers(servers) as upstreams, console.status("starting") as status:
        runs = list(comparison.play(names, plan, rounds, upstreams, status.update))
    notes += [f"{run.gateway}: {run.failure}" for run in runs if run.failure is not None]
    found = comparison.medians(runs)
    for one in plan:
        console.print(tables.table(one, found))
    _conclude(
        results(
            "overhead",
            parameters={
                "gateways": {name: gateways.version_of(name) for name in names},
                "scenarios": to_builtins(plan),
                "rounds": rounds,
                "scale": scale,
                "servers": servers,
                "descriptors": limit,
            },
            notes=notes,
            rounds=to_builtins(runs),
            medians=to_builtins(found),
            checks=comparison.checks(found, names, plan),
        ),
        json,
        console,
    )


@app.command()
def extproc(
    *,
    scenario: Annotated[
        list[str] | None, typer.Option(help="Only this scenario; may be repeated.")
    ] = None,
    picker: Annotated[
        list[str] | None, typer.Option(help="Only this picker; may be repeated.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; medians are taken over them.")] = 3,
    scale: Annotated[
        float, typer.Option(min=0.0001, max=1.0, help="Share of the full number of requests.")
    ] = 1.0,
    servers: Annotated[int, typer.Option(min=1, help="Model servers behind Envoy.")] = 4,
    json: Json = None,
) -> None:
    """Measure what being asked by Envoy costs, beside the same brain over grpc.aio.

    Every run starts a picker and an Envoy with one worker anew before the same servers. Envoy and
    grpc.aio come with the optional dependencies "dev".
    """
    console = _console()
    try:
        wanted = [one.scaled(scale) for one in asking_scenarios.chosen(scenario or ())]
        pickers = asking_measure.chosen(picker or ())
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    limit = scenarios.descriptor_limit()
    plan = [scenarios.fit_descriptors(one, limit) for one in wanted]
    with Servers(servers) as upstreams, console.status("starting") as status:
        runs = list(asking.play(plan, pickers, rounds, upstreams, status.update))
    found = asking.medians(runs)
    for one in plan:
        console.print(asking.table(one, found))
    _conclude(
        results(
            "extproc",
            parameters={
                "scenarios": to_builtins(plan),
                "rounds": rounds,
                "scale": scale,
                "servers": servers,
                "envoy": gateways.version_of("envoy"),
            },
            notes=[f"{one.picker}, {one.mode}: {one.failure}" for one in runs if one.failure],
            rounds=to_builtins(runs),
            medians=to_builtins(found),
            checks=asking.checks(found, plan) if asking.OURS in pickers else (),
        ),
        json,
        console,
    )


@app.command()
def decide(
    *,
    decisions_each: Annotated[
        int, typer.Option("--decisions", min=100, help="Decisions a case.")
    ] = 3_000,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; medians are taken over them.")] = 3,
    policy: Annotated[str, typer.Option(help="The policy that decides.")] = DEFAULT_POLICY,
    json: Json = None,
) -> None:
    """Time one decision, by prompt size and number of endpoints.

    With a system prompt that every endpoint holds, conversations that few hold, and requests in
    flight everywhere. CPU time in microseconds; hashing the prompt is in the total.
    """
    if policy not in POLICIES:
        raise typer.BadParameter(f"no policy {policy!r}; there are {', '.join(POLICIES)}")
    console = _console()
    cases = []
    with console.status("deciding"):
        for number in range(rounds):
            cases += [
                decisions.measure(size, endpoints, decisions_each, number, policy)
                for size in decisions.PROMPT_BYTES
                for endpoints in decisions.ENDPOINTS
            ]
    found = decisions.medians(cases)
    console.print(figures_table("CPU of a decision, us", to_builtins(found), omit=("round",)))
    _conclude(
        results(
            "decide",
            parameters={"decisions": decisions_each, "rounds": rounds, "policy": policy},
            rounds=to_builtins(cases),
            medians=to_builtins(found),
            checks=decisions.checks(found),
        ),
        json,
        console,
    )


@app.command()
def index(
    *,
    prompts: Annotated[int, typer.Option(min=1_000, help="Unique prompts.")] = 1_000_000,
    budget: Annotated[int, typer.Option(min=1 << 20, help="Byte budget.")] = 268_435_456,
    endpoints: Annotated[int, typer.Option(min=1, help="Endpoints, in turn.")] = 4,
    json: Json = None,
) -> None:
    """Fill the prefix index with unique 4 KB prompts: memory and speed."""
    console = _console()
    with console.status("storing") as status:
        found = indexing.measure(
            prompts, budget, endpoints, lambda done: status.update(f"storing, batch {done}")
        )
    figures = to_builtins(found)
    growth = figures.pop("growth")
    console.print(figures_table("prefix index", [figures]))
    _conclude(
        results(
            "index",
            parameters={"prompts": prompts, "budget_bytes": budget, "endpoints": endpoints},
            rounds=growth,
            medians=[figures],
            checks=indexing.checks(found),
        ),
        json,
        console,
    )


@app.command()
def events(
    *,
    blocks: Annotated[int, typer.Option(min=1_000, help="Changed blocks a round.")] = 200_000,
    endpoints: Annotated[int, typer.Option(min=1, help="Endpoints that report.")] = 8,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; medians are taken over them.")] = 3,
    json: Json = None,
) -> None:
    """Apply what engines report of their caches: CPU per block, memory, and what looking costs."""
    console = _console()
    with console.status("writing messages") as status:
        found = following.measure(blocks, endpoints, rounds=rounds, progress=status.update)
    for name, figure in found.medians[0].items():
        if isinstance(figure, int | float):
            console.print(f"{name.replace('_', ' '):>20}  {number(figure)}")
    _conclude(found, json, console)


@app.command()
def exactness(
    *,
    requests: Annotated[int, typer.Option(min=100, help="Requests to compare.")] = 10_000,
    servers: Annotated[int, typer.Option(min=1, help="Simulated model servers.")] = 4,
    cache_tokens: Annotated[int, typer.Option(min=10_000, help="KV cache of each.")] = 40_000,
    concurrency: Annotated[int, typer.Option(min=1, help="Conversations at a time.")] = 8,
    seed: Annotated[int, typer.Option(help="Seed of the conversations.")] = 0,
    json: Json = None,
) -> None:
    """Compare predicted with reported cached tokens, over real sockets and under eviction."""
    console = _console()
    with console.status("starting") as status:
        found = uvloop.run(
            comparing.measure(requests, servers, cache_tokens, concurrency, seed, status.update)
        )
    figures = to_builtins(found)
    console.print(figures_table("exactness", [figures]))
    _conclude(
        results(
            "exactness",
            parameters={"seed": seed},
            rounds=[figures],
            medians=[figures],
            checks=comparing.checks(found),
        ),
        json,
        console,
    )
