"""The command `inferway bench`, also as ``python -m bench``."""

from typing import Annotated

import typer
import uvloop
from msgspec import to_builtins

from bench import decide as decisions
from bench import disaggregation as splitting
from bench import events as following
from bench import exactness as comparing
from bench import index as indexing
from bench.admission.command import admission
from bench.chaos.command import chaos, soak
from bench.cluster.command import cluster
from bench.conclusion import Json, conclude, console_for
from bench.discovery import measure as discovering
from bench.extproc.command import extproc
from bench.overhead.command import overhead
from bench.placement import measure as placing
from bench.placement import scale as placing_scale
from bench.prefill.command import prefill_faults
from bench.replay.command import available_cores
from bench.replay.playing import play_cases
from bench.replay.workloads import SAMPLE_NAME
from bench.report.command import report
from bench.results import figures_table, number, results
from bench.scaledown.command import scale_down
from bench.scaling.command import scaler
from routing.policies import DEFAULT_POLICY, POLICIES

app = typer.Typer(
    help="Measure what the gateway costs, and check it against its bars.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def bench() -> None:
    """Measure what the gateway costs, and check it against its bars."""


app.command()(overhead)
app.command()(extproc)


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
    console = console_for()
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
    conclude(
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
    console = console_for()
    with console.status("storing") as status:
        found = indexing.measure(
            prompts, budget, endpoints, lambda done: status.update(f"storing, batch {done}")
        )
    figures = to_builtins(found)
    growth = figures.pop("growth")
    console.print(figures_table("prefix index", [figures]))
    conclude(
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
    console = console_for()
    with console.status("writing messages") as status:
        found = following.measure(blocks, endpoints, rounds=rounds, progress=status.update)
    for name, figure in found.medians[0].items():
        if isinstance(figure, int | float):
            console.print(f"{name.replace('_', ' '):>20}  {number(figure)}")
    conclude(found, json, console)


@app.command()
def discovery(
    *,
    pods: Annotated[int, typer.Option(min=1, help="Pods of the pool.")] = 200,
    ports: Annotated[int, typer.Option(min=1, max=8, help="Ports of each pod.")] = 8,
    rate: Annotated[float, typer.Option(min=0.1, help="Pods changed a second.")] = 20.0,
    seconds: Annotated[float, typer.Option(min=1.0, help="Seconds of that.")] = 60.0,
    seed: Annotated[int, typer.Option(help="Which pods change how.")] = 0,
    json: Json = None,
) -> None:
    """Follow a cluster whose pods come and go: missed and phantom endpoints, lag, memory."""
    console = console_for()
    with console.status("churning"):
        found = uvloop.run(discovering.measure(pods, ports, rate, seconds, seed))
    figures = to_builtins(found)
    notes = figures.pop("examples")
    console.print(figures_table("discovery", [figures]))
    conclude(
        results(
            "discovery",
            parameters={"pods": pods, "ports": ports, "rate": rate, "seconds": seconds},
            rounds=[figures],
            medians=[figures],
            checks=discovering.checks(found),
            notes=notes,
        ),
        json,
        console,
    )


@app.command()
def placement(
    *,
    scenarios: Annotated[
        int, typer.Option(min=1, help="Small clusters that are searched exhaustively.")
    ] = 3_000,
    nodes: Annotated[int, typer.Option(min=100, help="Nodes of the large cluster.")] = 10_000,
    plans: Annotated[int, typer.Option(min=10, help="Gangs that are planned on it.")] = 300,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    json: Json = None,
) -> None:
    """Compare device plans with an exhaustive search, and plan on a large cluster that changes.

    Gangs of 64 pods, on nodes with eight GPUs each. Times are CPU.
    """
    console = console_for()
    with console.status("comparing") as status:
        comparison, notes = placing.compare(scenarios, seed, status.update)
        scale = placing_scale.measure(nodes, plans, seed, status.update)
    compared = {**to_builtins(comparison), "found_share": comparison.found_share}
    console.print(figures_table("plans against an exhaustive search", [compared]))
    for name, figure in to_builtins(scale).items():
        console.print(f"{name.replace('_', ' '):>18}  {number(figure)}")
    conclude(
        results(
            "placement",
            parameters={"scenarios": scenarios, "nodes": nodes, "plans": plans, "seed": seed},
            notes=notes,
            rounds=[],
            medians=[compared, to_builtins(scale)],
            checks=placing.checks(comparison, scale),
        ),
        json,
        console,
    )


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
    console = console_for()
    with console.status("starting") as status:
        found = uvloop.run(
            comparing.measure(requests, servers, cache_tokens, concurrency, seed, status.update)
        )
    figures = to_builtins(found)
    console.print(figures_table("exactness", [figures]))
    conclude(
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


@app.command()
def disaggregation(
    trace: Annotated[
        str,
        typer.Argument(help=f"A trace of conversations as `replay` reads them; or {SAMPLE_NAME}."),
    ] = SAMPLE_NAME,
    *,
    requests: Annotated[
        int, typer.Option(min=100, help="Requests of each load at most.")
    ] = splitting.REQUESTS,
    seeds: Annotated[
        int,
        typer.Option(min=1, help="Seeds; medians are taken over them. More of a short trace."),
    ] = splitting.SEEDS,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Processes.", show_default="one a core")
    ] = None,
    json: Json = None,
) -> None:
    """Compare ways to split requests into prefill and decode, in virtual time.

    Eight simulated engines in every arm; TTFT, time between tokens, goodput, bytes moved.
    """
    console = console_for()
    played = play_cases(
        lambda: splitting.plan(trace, requests, seeds),
        splitting.play,
        processes or available_cores(),
        console,
    )
    found = splitting.medians(played)
    for name, arms in found.items():
        console.print(figures_table(name, [splitting.for_people(*one) for one in arms.items()]))
    conclude(
        results(
            "disaggregation",
            parameters={
                "trace": trace,
                "requests": requests,
                "seeds": seeds,
                "engines": splitting.ENDPOINTS,
                "arms": to_builtins(splitting.ARMS),
            },
            notes=[f"{load} is more than the fleet sustains" for load in splitting.overloads()],
            rounds=to_builtins(played),
            medians=[
                {"load": load, "arm": arm, **to_builtins(row)}
                for load, arms in found.items()
                for arm, row in arms.items()
            ],
            checks=splitting.checks(found),
        ),
        json,
        console,
    )


app.command()(admission)
app.command()(chaos)
app.command()(cluster)
app.command()(soak)
app.command()(prefill_faults)
app.command()(report)
app.command("scale-down")(scale_down)
app.command()(scaler)
