"""The lab's servers and the gateway before them: up, looked at, down."""

import os
import socket
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import suppress

import msgspec
import yaml
from msgspec import Struct

from bench import processes
from bench.lab.engine import HOST, MODEL, PORTS_EACH, Server, environment
from bench.lab.home import Home
from bench.processes import Started

START_SECONDS = 300.0
_GATEWAY_SECONDS = 30.0
_POLL_SECONDS = 0.5


class LabError(RuntimeError):
    """The lab is not as it should be; the message says why."""


class RunningServer(Struct, frozen=True):
    """A server and its process."""

    server: Server
    process: Started


class RunningGateway(Struct, frozen=True):
    """The gateway and its process."""

    port: int
    admin_port: int
    process: Started

    @property
    def url(self) -> str:
        """What an OpenAI client is told as its base URL."""
        return f"http://{HOST}:{self.port}/v1"


class State(Struct, frozen=True):
    """What was started and, as far as `LabFleet.state` tells, still runs."""

    servers: tuple[RunningServer, ...] = ()
    gateway: RunningGateway | None = None


class LabFleet:
    """The processes of one `Home`."""

    def __init__(self, home: Home) -> None:
        self.home = home

    def state(self) -> State:
        """What runs now."""
        try:
            known = msgspec.json.decode(self.home.state.read_bytes(), type=State)
        except (OSError, msgspec.MsgspecError):
            return State()
        gateway = known.gateway
        return State(
            tuple(one for one in known.servers if one.process.running),
            gateway if gateway is not None and gateway.process.running else None,
        )

    def start(self, servers: Sequence[Server], nice: int) -> tuple[RunningServer, ...]:
        """Start these servers, without waiting for them. Raises `LabError`."""
        for server in servers:
            for port in range(server.port, server.port + PORTS_EACH):
                _check_free(port)
        begun = []
        for server in servers:
            log = self.home.logs / f"{server.name}.log"
            try:
                process = processes.start(server.command(self.home), environment(server), log, nice)
            except OSError as error:
                raise LabError(f"{server.name} can't be started: {error}") from error
            begun.append(RunningServer(server, process))
            state = self.state()
            self._remember(msgspec.structs.replace(state, servers=(*state.servers, begun[-1])))
        return tuple(begun)

    def wait(
        self,
        servers: Sequence[RunningServer],
        report: Callable[[str], object] = lambda _: None,
        seconds: float = START_SECONDS,
    ) -> None:
        """Until they answer. Raises `LabError` when one ends, or takes longer."""
        begun = time.monotonic()
        for one in servers:
            while not answers(f"{one.server.url}/health"):
                if not one.process.running:
                    words = one.process.last_words()
                    raise LabError(f"{one.server.name} ended while starting:\n{words}")
                passed = time.monotonic() - begun
                if passed > seconds:
                    log = one.process.log
                    raise LabError(f"{one.server.name} took more than {seconds:g} s; log: {log}")
                report(f"{one.server.name} loads its model, {passed:.0f} s")
                time.sleep(_POLL_SECONDS)

    def start_gateway(self, port: int, admin_port: int) -> RunningGateway:
        """Start our gateway before all servers, and wait for it. Raises `LabError`."""
        for number in (port, admin_port):
            _check_free(number)
        servers = [one.server for one in self.state().servers]
        self.home.config.write_text(yaml.safe_dump(self.configuration(servers), sort_keys=False))
        command = [
            *(sys.executable, "-m", "gateway.cli", "serve", "--config", str(self.home.config)),
            *("--host", HOST, "--port", str(port), "--admin-port", str(admin_port)),
        ]
        log = self.home.logs / "gateway.log"
        process = processes.start(command, os.environ, log, nice=0)
        gateway = RunningGateway(port, admin_port, process)
        self._remember(msgspec.structs.replace(self.state(), gateway=gateway))
        end = time.monotonic() + _GATEWAY_SECONDS
        while not answers(f"http://{HOST}:{admin_port}/readyz"):
            if not process.running or time.monotonic() > end:
                raise LabError(f"the gateway is not ready:\n{process.last_words()}")
            time.sleep(_POLL_SECONDS)
        return gateway

    def configuration(self, servers: Sequence[Server]) -> dict[str, object]:
        """The gateway's settings before these servers: their caches followed, prompts tokenized."""
        return {
            "endpoints": [{"url": one.url, "labels": one.labels()} for one in servers],
            "kv_events": {},
            "tokenizers": {MODEL: str(self.home.model)},
        }

    def stop_gateway(self) -> None:
        """Stop the gateway only."""
        state = self.state()
        if state.gateway is not None:
            state.gateway.process.stop()
        self._remember(msgspec.structs.replace(state, gateway=None))

    def stop(self) -> int:
        """Stop everything that runs; how many processes of ours that were."""
        state = self.state()
        started = [one.process for one in state.servers]
        if state.gateway is not None:
            started.insert(0, state.gateway.process)
        for process in started:
            process.stop()
        self._remember(State())
        return len(started)

    def _remember(self, state: State) -> None:
        processes.write(self.home.state, state)


def answers(url: str) -> bool:
    """Whether a GET is answered with 200."""
    with suppress(OSError), urllib.request.urlopen(url, timeout=2) as response:
        return bool(response.status == 200)
    return False


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            raise LabError(f"port {port} is taken; another first one: --port") from None
