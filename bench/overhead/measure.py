"""One run: one gateway, fresh, before the bench's servers, given one scenario."""

import http.client
import socket
import time
from array import array
from base64 import b64decode
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory

from msgspec import Struct

from bench.overhead import upstream
from bench.overhead.control import Helper
from bench.overhead.gateways import HOST, Gateway, Start
from bench.overhead.load import Done, Finish, Outcome, Prepare, Run, Tell
from bench.overhead.processes import ProcessTree
from bench.overhead.programs import AbsentError
from bench.overhead.prompts import MODEL, PATH
from bench.overhead.scenarios import Scenario

_START_SECONDS = 30.0
_RUN_SECONDS = 90.0
_SETTLE_SECONDS = 1.0  # for what a gateway still does after it answered, or opened its streams
_ASK_SECONDS = 20.0


class Figures(Struct, frozen=True, kw_only=True):
    """What one run gave; None: not measured (a direct run has no gateway to measure).

    CPU in microseconds, of the gateway's whole process tree unless it is the client's;
    latency in milliseconds, to the end of an answer or to the first event of a stream;
    memory in bytes; ``client_busy`` is the share of one core that the client used.
    ``bodies_changed``: how many of the bodies sent did not arrive byte for byte;
    ``servers_used``: how many of the servers got any.
    """

    requests: int
    errors: int
    requests_per_second: float
    latency_p50_ms: float | None
    latency_p99_ms: float | None
    cpu_us_per_request: float | None
    cpu_us_per_chunk: float | None
    peak_rss_bytes: int | None
    bytes_per_stream: float | None
    client_cpu_us_per_request: float
    client_busy: float
    bodies_sent: int
    bodies_received: int
    bodies_changed: int
    servers_used: int
    error_kinds: dict[str, int]


@dataclass(frozen=True, slots=True)
class Usage:
    """What the gateway used during a run: CPU seconds, bytes; None where it was not measured."""

    cpu: float
    peak_rss: int
    stream_rss: int | None = None


class Servers:
    """The bench's model servers, in a process of their own, while the block runs."""

    def __init__(self, count: int) -> None:
        self._helper = Helper("bench.overhead.upstream")
        self._count = count

    def __enter__(self) -> "Servers":
        self._helper.__enter__()
        listening = self._helper.ask(upstream.Listen(self._count), upstream.Listening, _ASK_SECONDS)
        self.ports = listening.ports
        return self

    def __exit__(self, *error: object) -> None:
        self._helper.__exit__(None, None, None)

    def plan(self, scenario: Scenario | None = None) -> None:
        """Forget what was received; answer as the scenario says, or in one piece."""
        chunks, gap, hold = (
            (scenario.chunks, scenario.gap, scenario.hold) if scenario else (0, 0.0, False)
        )
        self._ask(upstream.Plan(chunks, gap, hold))

    def release(self) -> None:
        """Let held streams go on."""
        self._ask(upstream.Release())

    def received(self) -> upstream.Received:
        """What arrived since the last plan."""
        return self._ask(upstream.Report())

    def _ask(self, question: Struct) -> upstream.Received:
        return self._helper.ask(question, upstream.Received, _ASK_SECONDS)


def run(gateway: Gateway | None, scenario: Scenario, servers: Servers) -> Figures:
    """Start the gateway (None: direct), run the scenario through it, and stop it.

    Raises `AbsentError` when the gateway can't be started, `HelperError` when the run did not end.
    """
    with TemporaryDirectory(prefix="inferway-bench-") as directory:
        if gateway is None:
            return _run(None, servers.ports, scenario, servers)
        start = Start(_free_port(), _free_port(), servers.ports, Path(directory))
        try:
            tree = ProcessTree(gateway.command(start), Path(directory) / "log", gateway.environment)
        except OSError as error:
            raise AbsentError(f"{gateway.executable} can't be started: {error}") from error
        with tree:
            wait_until_ready(tree, start.port, servers)
            return _run(tree, [start.port], scenario, servers)


def _run(
    tree: ProcessTree | None, ports: list[int], scenario: Scenario, servers: Servers
) -> Figures:
    servers.plan(scenario)
    with Helper("bench.overhead.load") as client:
        client.ask(Prepare(scenario, ports), Done, _RUN_SECONDS)
        before, rss = (tree.cpu_seconds(), tree.rss_bytes()) if tree else (0.0, 0)
        opened = client.ask(Run(), Done, _RUN_SECONDS)
        stream_rss: int | None = None
        if scenario.hold:
            time.sleep(_SETTLE_SECONDS)
            stream_rss = tree.rss_bytes() - rss if tree and opened.open else None
            servers.release()
        client.ask(Finish(), Done, _RUN_SECONDS)
        usage = None
        if tree is not None:
            usage = Usage(tree.cpu_seconds() - before, tree.peak_rss_bytes(), stream_rss)
        outcome = client.ask(Tell(), Outcome, _RUN_SECONDS)
    return figures(scenario, outcome, usage, opened, servers.received())


def figures(
    scenario: Scenario,
    outcome: Outcome,
    usage: Usage | None,
    opened: Done,
    received: upstream.Received,
) -> Figures:
    """The figures of a run, from what client, gateway and servers measured."""
    cuts = _percentiles(outcome.latencies)
    sent, arrived = _digests(outcome.digests), _digests(received.digests)
    return Figures(
        requests=outcome.requests,
        errors=sum(outcome.errors.values()),
        requests_per_second=outcome.requests / outcome.wall,
        latency_p50_ms=cuts[0] * 1e3 if cuts else None,
        latency_p99_ms=cuts[1] * 1e3 if cuts else None,
        cpu_us_per_request=usage.cpu / outcome.requests * 1e6 if usage else None,
        cpu_us_per_chunk=usage.cpu / outcome.chunks * 1e6 if usage and outcome.chunks else None,
        peak_rss_bytes=usage.peak_rss if usage else None,
        bytes_per_stream=(
            usage.stream_rss / opened.open if usage and usage.stream_rss is not None else None
        ),
        client_cpu_us_per_request=outcome.cpu / outcome.requests * 1e6,
        client_busy=outcome.cpu / outcome.wall,
        bodies_sent=sent.total(),
        bodies_received=arrived.total(),
        bodies_changed=(sent - arrived).total(),
        servers_used=sum(map(bool, received.requests)),
        error_kinds=outcome.errors,
    )


def _percentiles(latencies: list[float]) -> tuple[float, float] | None:
    """p50 and p99; None of fewer than two."""
    if len(latencies) < 2:
        return None
    cuts = quantiles(latencies, n=100, method="inclusive")
    return cuts[49], cuts[98]


def _digests(encoded: str) -> Counter[int]:
    return Counter(array("Q", b64decode(encoded)))


def wait_until_ready(tree: ProcessTree, port: int, servers: Servers) -> None:
    """Until it answers, and a moment more, as it may answer before it knows all its servers.

    How many servers the measured requests reached is among the figures.
    """
    servers.plan()
    end = time.monotonic() + _START_SECONDS
    problem, attempt = "it does not listen", 0
    while time.monotonic() < end:
        if not tree.running:
            raise AbsentError(f"it ended: {tree.last_words()}")
        answered, problem = _try(port, attempt)
        attempt += 1
        time.sleep(_SETTLE_SECONDS if answered else 0.1)
        if answered:
            return
    raise AbsentError(f"not ready in {_START_SECONDS:g} s: {problem}; {tree.last_words()}")


def _try(port: int, attempt: int) -> tuple[bool, str]:
    """One request; whether it was answered, and what was wrong."""
    body = b'{"model":"%s","messages":[{"role":"user","content":"%s"}]}' % (
        MODEL.encode(),
        bytes([ord("A") + attempt % 26]) * 4_096,
    )
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("POST", PATH, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        said = response.read()
        return response.status == 200, f"status {response.status}: {said[:200]!r}"
    except (OSError, http.client.HTTPException) as error:
        return False, f"{type(error).__name__}: {error}"
    finally:
        connection.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
