"""The command `inferway bench`, also as ``python -m bench``."""

from dataclasses import replace
from typing import Annotated

import typer
import uvloop
from msgspec import to_builtins

from bench import decide as decisions
from bench import disaggregation as splitting
from bench import events as following
from bench import exactness as comparing
from bench import index as indexing
from bench.chaos.command import chaos, soak
from bench.cluster.command import cluster
from bench.conclusion import Json, conclude, console_for
from bench.discovery import measure as discovering
from bench.extproc import comparison as asking
from bench.extproc import measure as asking_measure
from bench.extproc import scenarios as asking_scenarios
from bench.overhead import build, comparison, gateways, scenarios, tables
from bench.overhead.measure import Servers
from bench.placement import measure as placing
from bench.placement import scale as placing_scale
from bench.prefill.command import prefill_faults
from bench.replay.parallel import WorkerError
from bench.replay.workloads import SAMPLE_NAME, TraceError
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
    compiled: Annotated[
        bool,
        typer.Option(
            "--compiled/--interpreted",
            help="Which build of ours is measured; the compiled one is made when there is none.",
        ),
    ] = True,
    json: Json = None,
) -> None:
    """Compare gateways on the same work: CPU, latency and memory.

    Every round starts each gateway anew before the same servers. Rivals come with
    the optional dependencies "rivals"; one that is not there is named with the reason.
    """
    console = console_for()
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
    ours = gateways.INFERWAY
    with Servers(servers) as upstreams, console.status("starting") as status:
        if compiled and ours.name in names:
            try:
                ours = replace(ours, environment=build.compiled_environment(status.update))
            except build.NoCompiledBuildError as error:
                compiled = False
                notes.append(f"inferway is not compiled: {error}")
        runs = list(comparison.play(names, plan, rounds, upstreams, status.update, ours))
    notes += [f"{run.gateway}: {run.failure}" for run in runs if run.failure is not None]
    found = comparison.medians(runs)
    for one in plan:
        console.print(tables.table(one, found))
    conclude(
        results(
            "overhead",
            parameters={
                "gateways": {name: gateways.version_of(name) for name in names},
                "scenarios": to_builtins(plan),
                "rounds": rounds,
                "scale": scale,
                "compiled": compiled,
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
    console = console_for()
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
    conclude(
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
        int, typer.Option(min=1, help="Seeds; medians are taken over them.")
    ] = splitting.SEEDS,
    processes: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    json: Json = None,
) -> None:
    """Compare ways to split requests into prefill and decode, in virtual time.

    Eight simulated engines in every arm; TTFT, time between tokens, goodput, bytes moved.
    """
    console = console_for()
    cases = splitting.plan(trace, requests, seeds)
    played = []
    try:
        splitting.workload_of(cases[0])
        with console.status("replaying") as status:
            for one in splitting.play_all(cases, processes):
                played.append(one)
                status.update(f"{len(played)} of {len(cases)}: {one.case}")
    except (TraceError, ValueError) as error:
        raise typer.BadParameter(str(error)) from None
    except WorkerError as error:
        console.print(f"[red]error:[/red] {error}")
        raise typer.Exit(2) from None
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


app.command()(chaos)
app.command()(cluster)
app.command()(soak)
app.command()(prefill_faults)
app.command()(report)
app.command("scale-down")(scale_down)
app.command()(scaler)
