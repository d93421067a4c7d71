"""The command `inferway sim`, also as ``python -m bench.fleet``."""

import asyncio
import json
import os
import signal
import sys
from dataclasses import asdict
from typing import Annotated

import msgspec
import typer
import uvloop

from bench.fleet.fleet import EmbeddedFleet
from bench.fleet.settings import (
    DEFAULT_MODEL,
    PRESETS,
    Connector,
    KvEventSettings,
    Role,
    ServerSettings,
)


def sim(
    *,
    servers: Annotated[int, typer.Option(min=1, help="How many servers, in one process.")] = 1,
    port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Port of the first server; 0: free ports.")
    ] = 0,
    model: Annotated[str, typer.Option(help="Name of the served model.")] = DEFAULT_MODEL,
    lora: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A LoRA adapter; may be repeated.")
    ] = None,
    preset: Annotated[
        str, typer.Option(help=f"Model and hardware to imitate: {', '.join(PRESETS)}.")
    ] = "8b-h100",
    mode: Annotated[str, typer.Option(help="Where answers come from: random or echo.")] = "random",
    time_scale: Annotated[
        float, typer.Option(help="Factor on all durations; 0.1 is ten times faster.")
    ] = 1.0,
    time_factor_under_load: Annotated[
        float, typer.Option(help="Factor on a step's time when all slots are taken.")
    ] = 1.0,
    jitter: Annotated[
        float, typer.Option(help="Standard deviation of a step's time, 0 to 0.3 of it.")
    ] = 0.0,
    cache_tokens: Annotated[
        int, typer.Option(help="Size of each server's KV cache, in tokens.")
    ] = 131_072,
    cpu_cache_tokens: Annotated[
        int, typer.Option(help="Size of a second tier for what the KV cache evicts; 0: none.")
    ] = 0,
    cpu_load_rate: Annotated[
        float, typer.Option(help="Tokens a second that come back from the second tier.")
    ] = 200_000.0,
    block_size: Annotated[int, typer.Option(help="Size of a cache block, in tokens.")] = 16,
    max_model_len: Annotated[
        int, typer.Option(help="Longest prompt and answer together, in tokens.")
    ] = 131_072,
    max_num_seqs: Annotated[int, typer.Option(help="Sequences that run at once.")] = 256,
    max_batched_tokens: Annotated[int, typer.Option(help="Token budget of a step.")] = 2048,
    max_waiting: Annotated[
        int | None, typer.Option(help="Longest waiting queue; beyond it 429. [no limit]")
    ] = None,
    startup_seconds: Annotated[
        float, typer.Option(help="How long the servers answer 503 at first.")
    ] = 0.0,
    error_rate: Annotated[
        float, typer.Option(help="Share of requests that fail with 503, 0 to 1.")
    ] = 0.0,
    kv_events: Annotated[
        bool, typer.Option("--kv-events", help="Publish KV-cache events over ZeroMQ.")
    ] = False,
    kv_events_port: Annotated[
        int,
        typer.Option(
            help="First server's port for events, the next one for replays; each server "
            "takes two. 0: free ports."
        ),
    ] = 0,
    kv_encoding: Annotated[
        str, typer.Option(help="Form of the events: map, array (older vLLM) or sglang.")
    ] = "map",
    kv_hashes: Annotated[str, typer.Option(help="Form of block hashes: int or bytes.")] = "int",
    kv_buffer_steps: Annotated[
        int, typer.Option(help="Batches of events that can be replayed.")
    ] = 10_000,
    role: Annotated[
        list[str] | None,
        typer.Option(
            help="prefill, decode or both; may be repeated, one a server. [both]",
        ),
    ] = None,
    connector: Annotated[
        str | None,
        typer.Option(
            help="How servers of this process hand KV over: "
            f"{', '.join(one.value for one in Connector)}. [nixl with --role]",
        ),
    ] = None,
    kv_lease: Annotated[
        float, typer.Option(help="Seconds for which KV that nobody fetches stays pinned.")
    ] = 30.0,
    kv_bandwidth: Annotated[float, typer.Option(help="Bytes a second between servers.")] = 25e9,
    kv_bytes_per_token: Annotated[int, typer.Option(help="Size of the KV of a token.")] = 131_072,
    seed: Annotated[int, typer.Option(help="Makes texts, lengths, jitter and faults repeat.")] = 0,
    json_ready: Annotated[
        bool,
        typer.Option(
            "--json-ready",
            help="For programs: print one line of JSON when all listen, and end with stdin.",
        ),
    ] = False,
) -> None:
    """Run simulated model servers: vLLM's API, cache and metrics, with invented text.

    Servers keep a real block prefix cache and batch requests as vLLM does; only the time of a step
    and the text are made up. With --kv-events they publish what becomes cached and what is
    evicted. Failures, speed and jitter can be changed while a server runs, by POST to
    /admin/config.

    [bold]Examples[/bold]

      inferway sim --servers 4 --port 8001

      inferway sim --time-scale 0.1 --cache-tokens 65536 --lora sql-expert
    """
    if preset not in PRESETS:
        raise typer.BadParameter(f"one of {', '.join(PRESETS)}", param_hint="--preset")
    behaviour = {
        "timing": msgspec.to_builtins(PRESETS[preset]),
        "time_scale": time_scale,
        "time_factor_under_load": time_factor_under_load,
        "jitter": jitter,
        "cpu_load_rate": cpu_load_rate,
        "faults": {"errors": {"server_error": error_rate}},
        "link": {"bandwidth": kv_bandwidth, "bytes_per_token": kv_bytes_per_token},
    }
    handover = None
    if role or connector is not None:
        handover = {"connector": connector or "nixl", "lease": kv_lease}
    events = {
        "encoding": kv_encoding,
        "hashes": kv_hashes,
        "port": kv_events_port,
        "buffer_steps": kv_buffer_steps,
    }
    try:
        if not kv_events and msgspec.convert(events, KvEventSettings) != KvEventSettings():
            raise typer.BadParameter("the other --kv-* options need it", param_hint="--kv-events")
        settings = msgspec.convert(
            {
                "model": model,
                "adapters": lora or [],
                "seed": seed,
                "mode": mode,
                "block_size": block_size,
                "cache_tokens": cache_tokens,
                "cpu_cache_tokens": cpu_cache_tokens,
                "max_model_len": max_model_len,
                "max_num_seqs": max_num_seqs,
                "max_batched_tokens": max_batched_tokens,
                "max_waiting": max_waiting,
                "startup_seconds": startup_seconds,
                "kv_events": events if kv_events else None,
                "handover": handover,
                "behaviour": behaviour,
            },
            ServerSettings,
        )
        roles = msgspec.convert(role or [], list[Role])
    except msgspec.ValidationError as error:
        raise typer.BadParameter(str(error)) from None
    try:
        fleet = EmbeddedFleet(settings, servers, port, roles)
        uvloop.run(_serve(fleet, json_ready=json_ready))
    except OSError as error:  # a port is taken
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None


async def _serve(fleet: EmbeddedFleet, *, json_ready: bool) -> None:
    """Serve until a signal, or with ``json_ready`` until stdin ends."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with fleet:
        if json_ready:
            _end_with_stdin(loop, stop)
            typer.echo(json.dumps(_ready(fleet)))
        else:
            for server, events in zip(fleet.servers, fleet.event_addresses, strict=True):
                where = "" if events is None else f"  events {events.endpoint}"
                typer.echo(f"{server.service.settings.name}  {server.url}{where}")
        await stop.wait()


def _ready(fleet: EmbeddedFleet) -> dict[str, object]:
    """What a program is told: URLs, and when events are published where, in the same order."""
    ready: dict[str, object] = {"urls": fleet.urls}
    addresses = [address for address in fleet.event_addresses if address is not None]
    if addresses:
        ready["kv_events"] = [asdict(address) for address in addresses]
    handovers = [server.service.settings.handover for server in fleet.servers]
    if handovers[0] is not None:
        ready["roles"] = [one.role.value for one in handovers if one is not None]
        ready["connector"] = handovers[0].connector.value
    return ready


def _end_with_stdin(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """Whoever started us holds the other end: when it dies, we end too."""
    descriptor = sys.stdin.fileno()

    def read() -> None:
        if not os.read(descriptor, 4096):
            loop.remove_reader(descriptor)
            stop.set()

    loop.add_reader(descriptor, read)
