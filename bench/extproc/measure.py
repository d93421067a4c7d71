"""One run: one picker behind one Envoy, fresh, before the bench's servers, given one scenario."""

import socket
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml
from msgspec import Struct

from bench.extproc import envoy
from bench.overhead import upstream
from bench.overhead.control import Helper
from bench.overhead.load import Done, Finish, Outcome, Prepare, Run, Tell
from bench.overhead.measure import Figures, Servers, Usage, figures, wait_until_ready
from bench.overhead.processes import ProcessTree
from bench.overhead.programs import AbsentError, find
from bench.overhead.scenarios import Scenario

_HOST = "127.0.0.1"
_RUN_SECONDS = 180.0
_SETTLE_SECONDS = 1.0
_IDLE_SECONDS = 4.0  # CPU time is told in hundredths


@dataclass(frozen=True, slots=True)
class Start:
    """What a picker is told: its ports, the servers, a directory for its files."""

    port: int
    admin_port: int
    urls: Sequence[str]
    directory: Path


def _inferway(start: Start) -> list[str]:
    config = start.directory / "inferway.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "log": {"access": False, "level": "warning"},
                "extproc": {"port": start.port, "alone": True},
                "admin": {"port": start.admin_port},
            }
        )
    )
    return [str(find("inferway")), "serve", *start.urls, "--config", str(config)]


def _grpc_aio(kind: str) -> Callable[[Start], list[str]]:
    def command(start: Start) -> list[str]:
        return [
            *(sys.executable, "-m", "bench.extproc.baseline", kind),
            *(str(start.port), str(start.admin_port), *start.urls),
        ]

    return command


PICKERS: dict[str, Callable[[Start], list[str]]] = {
    "inferway": _inferway,
    "grpc.aio raw": _grpc_aio("raw"),
    "grpc.aio typed": _grpc_aio("typed"),
}


def chosen(names: Iterable[str]) -> tuple[str, ...]:
    """These names in the table's order, all when there is none; ValueError for an unknown one."""
    wanted = tuple(names) or tuple(PICKERS)
    for name in wanted:
        if name not in PICKERS:
            raise ValueError(f"no picker {name!r}; there are {', '.join(PICKERS)}")
    return tuple(name for name in PICKERS if name in wanted)


class Measured(Struct, frozen=True, kw_only=True):
    """``figures`` of the picker's process, and what only this bench looks at.

    CPU in microseconds: ``envoy_cpu_us`` is Envoy's own a request; ``asked_cpu_us`` the picker's
    a request, less what it uses in the same time when nobody asks (probes, scrapes, timers).
    """

    figures: Figures
    envoy_cpu_us: float
    asked_cpu_us: float


def run(picker: str, mode: str, scenario: Scenario, servers: Servers) -> Measured:
    """Start everything, run the scenario, stop everything.

    Raises `AbsentError` when something can't be started, `HelperError` when it did not end.
    """
    with TemporaryDirectory(prefix="inferway-bench-") as directory:
        place = Path(directory)
        port, admin, asked, asked_admin = _free_ports(4)
        urls = [f"http://{_HOST}:{server}" for server in servers.ports]
        start = Start(asked, asked_admin, urls, place)
        config = place / "envoy.yaml"
        config.write_text(
            yaml.safe_dump(envoy.config(mode, port, admin, asked, servers.ports), sort_keys=False)
        )
        command = [
            *(str(find("envoy")), "-c", str(config), "--use-dynamic-base-id"),
            *("--concurrency", "1", "--log-level", "error"),
        ]
        with (
            ProcessTree(PICKERS[picker](start), place / "picker.log") as ours,
            ProcessTree(command, place / "envoy.log") as theirs,
        ):
            _wait_for_picker(ours, asked)
            wait_until_ready(theirs, port, servers)
            return _run(ours, theirs, port, scenario, servers)


def _run(
    ours: ProcessTree, theirs: ProcessTree, port: int, scenario: Scenario, servers: Servers
) -> Measured:
    servers.plan(scenario)
    with Helper("bench.overhead.load") as client:
        client.ask(Prepare(scenario, [port]), Done, _RUN_SECONDS)
        idle = _idle_share(ours)
        before, rss, envoy_before = ours.cpu_seconds(), ours.rss_bytes(), theirs.cpu_seconds()
        opened = client.ask(Run(), Done, _RUN_SECONDS)
        stream_rss: int | None = None
        if scenario.hold:
            time.sleep(_SETTLE_SECONDS)
            stream_rss = ours.rss_bytes() - rss if opened.open else None
            servers.release()
        client.ask(Finish(), Done, _RUN_SECONDS)
        usage = Usage(ours.cpu_seconds() - before, ours.peak_rss_bytes(), stream_rss)
        envoy_cpu = theirs.cpu_seconds() - envoy_before
        outcome = client.ask(Tell(), Outcome, _RUN_SECONDS)
    received: upstream.Received = servers.received()
    return Measured(
        figures=figures(scenario, outcome, usage, opened, received),
        envoy_cpu_us=envoy_cpu / outcome.requests * 1e6,
        asked_cpu_us=(usage.cpu - idle * outcome.wall) / outcome.requests * 1e6,
    )


def _idle_share(tree: ProcessTree) -> float:
    """CPU seconds a second of a picker that nobody asks."""
    before, began = tree.cpu_seconds(), time.monotonic()
    time.sleep(_IDLE_SECONDS)
    return (tree.cpu_seconds() - before) / (time.monotonic() - began)


def _wait_for_picker(tree: ProcessTree, port: int, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not tree.running:
            raise AbsentError(f"the picker ended: {tree.last_words()}")
        try:
            socket.create_connection((_HOST, port), timeout=1.0).close()
        except OSError:
            time.sleep(0.1)
            continue
        return
    raise AbsentError(f"the picker does not listen: {tree.last_words()}")


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind((_HOST, 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()
