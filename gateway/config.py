"""One YAML file -> typed, validated, frozen settings.

Seconds and bytes everywhere. Every key has a default except an endpoint's URL, unknown keys
are errors, and an error says where it is, which value is wrong and what would be right.
docs/configuration.md explains each key.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from endpoints.discovery.static import endpoint_from_url
from gateway import strictyaml
from gateway.checking import Problem, problems_in
from routing.fleet import Endpoint
from routing.policies import DEFAULT_POLICY, make_policy

_DAY = 86_400.0

Text: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, description="non-empty text")]
Port: TypeAlias = Annotated[
    int, msgspec.Meta(ge=0, le=65_535, description="a port, 0 (any free one) to 65535")
]
Seconds: TypeAlias = Annotated[
    float, msgspec.Meta(gt=0, le=_DAY, description="seconds, above 0 and at most 86400")
]
Bytes: TypeAlias = Annotated[
    int, msgspec.Meta(ge=1024, le=1 << 40, description="a whole number of bytes, at least 1024")
]
Count: TypeAlias = Annotated[
    int, msgspec.Meta(ge=1, le=1_000_000_000, description="a whole number, at least 1")
]
CountOrZero: TypeAlias = Annotated[
    int, msgspec.Meta(ge=0, le=1_000_000_000, description="a whole number, at least 0")
]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A part of the settings. What is built in code, not from a file, is not checked."""


class ListenSettings(Section, frozen=True):
    """Where clients connect."""

    host: Text = "127.0.0.1"
    port: Port = 8080


class AdminSettings(Section, frozen=True):
    """Where operators connect."""

    host: Text = "127.0.0.1"
    port: Port = 9090


class EndpointSettings(Section, frozen=True):
    """One model server; None leaves it to what discovery and probes find out."""

    url: Text
    name: Text | None = None
    engine: Text | None = None
    models: tuple[Text, ...] | None = None
    cache_tokens: Count | None = None
    labels: dict[str, str] = {}

    def endpoint(self) -> Endpoint:
        """The endpoint of these facts; ValueError says which one can't be."""
        return endpoint_from_url(
            self.url,
            name=self.name,
            engine=self.engine,
            models=self.models,
            cache_tokens=self.cache_tokens,
            labels=tuple(self.labels.items()),
        )


class RoutingSettings(Section, frozen=True):
    """How endpoints are chosen."""

    policy: Text = DEFAULT_POLICY
    index_bytes: Bytes = 268_435_456
    default_cache_tokens: Count = 500_000
    max_requests_per_endpoint: Count | None = None
    fallbacks: CountOrZero = 3


class ProbeSettings(Section, frozen=True):
    """How endpoints are watched."""

    interval: Seconds = 0.5
    timeout: Seconds = 2.0
    models_interval: Seconds = 10.0
    unhealthy_after: Count = 2
    healthy_after: Count = 1


class ProxySettings(Section, frozen=True):
    """Limits and time-outs of the data plane."""

    max_body_bytes: Bytes = 67_108_864
    max_header_bytes: Bytes = 65_536
    connect_timeout: Seconds = 2.0
    first_byte_timeout: Seconds = 600.0
    idle_timeout: Seconds = 300.0
    keepalive_timeout: Seconds = 75.0
    header_timeout: Seconds = 20.0
    body_timeout: Seconds = 60.0
    drain_seconds: Seconds = 30.0
    max_idle_upstream: CountOrZero = 256


class LogSettings(Section, frozen=True):
    """What is written about it all."""

    format: Literal["console", "json"] = "console"
    level: Literal["debug", "info", "warning", "error"] = "info"
    access: bool = True


class Settings(Section, frozen=True):
    """Everything that can be set; `Settings()` is what an empty mapping means."""

    listen: ListenSettings = ListenSettings()
    admin: AdminSettings = AdminSettings()
    endpoints: tuple[EndpointSettings, ...] = ()
    routing: RoutingSettings = RoutingSettings()
    probes: ProbeSettings = ProbeSettings()
    proxy: ProxySettings = ProxySettings()
    log: LogSettings = LogSettings()

    def fleet_endpoints(self) -> tuple[Endpoint, ...]:
        """The endpoints as discovery knows them; ValueError for one that can't be."""
        return tuple(settings.endpoint() for settings in self.endpoints)

    def with_endpoints(self, urls: Iterable[str]) -> "Settings":
        """The same with these endpoints instead, about which nothing is known but the URL."""
        return msgspec.structs.replace(
            self, endpoints=tuple(EndpointSettings(url=url) for url in urls)
        )


class ConfigError(ValueError):
    """A configuration that can't be used: where it came from and all that is wrong with it."""

    def __init__(self, source: str, problems: Iterable[Problem]) -> None:
        self.source = source
        self.problems = tuple(problems)
        super().__init__(source, self.problems)

    def __str__(self) -> str:
        return "\n  ".join([f"{self.source} can't be used:", *map(str, self.problems)])


LIVE_KEYS = frozenset({"endpoints", "routing.policy", "log.level"})
"""What a running gateway takes over from a changed file.

Each of them is one assignment away: the fleet is reconciled, the router asks another policy
from the next request on, the logger filters otherwise. Everything else is built into sockets,
pools and budgets that requests in flight depend on, and waits for a restart.
"""


def load(path: Path | str) -> Settings:
    """The settings in a file; ConfigError when it can't be read or is wrong."""
    return _from_bytes(_read(Path(path)), str(path))


def from_text(text: str, source_name: str) -> Settings:
    """The settings in a YAML text; ``source_name`` is what errors call it."""
    return _from_bytes(text.encode(), source_name)


def from_options(
    settings: Settings,
    *,
    urls: Iterable[str] = (),
    host: str | None = None,
    port: int | None = None,
    admin_port: int | None = None,
    policy: str | None = None,
) -> Settings:
    """``settings`` with what the command line says instead, where it says anything.

    ``host`` is for clients and operators both. ConfigError as for a file.
    """
    urls = tuple(urls)
    if urls:
        settings = settings.with_endpoints(urls)
    data: dict[str, dict[str, object]] = msgspec.to_builtins(settings)
    options = (
        ("listen", "host", host),
        ("admin", "host", host),
        ("listen", "port", port),
        ("admin", "port", admin_port),
        ("routing", "policy", policy),
    )
    for section, key, value in options:
        if value is not None:
            data[section][key] = value
    return _checked(data, "the command line")


async def watch(path: Path | str, interval: float = 1.0) -> AsyncIterator[Settings | ConfigError]:
    """What the file says: once at the start, then again after each change of its meaning.

    A file that is broken or gone gives its ConfigError, once; the settings given before it
    stay in force until the file is right again. Never raises for what is in the file.

    The content is read every ``interval`` seconds rather than watched with inotify: that sees
    nothing on network and many overlay file systems, and a Kubernetes ConfigMap changes by
    swapping a symbolic link two directories up, after which a watch keeps looking at the old
    file. Reading a page a second costs microseconds. A change counts only once two reads in a
    row agree, since an editor's half-written file may be valid YAML with half the endpoints.
    """
    path = Path(path)
    given: Settings | ConfigError | None = None
    settled: bytes | ConfigError | None = None
    latest = await asyncio.to_thread(_read_quietly, path)
    while True:
        before, latest = latest, await asyncio.to_thread(_read_quietly, path)
        if _same(before, latest) and not _same(settled, latest):
            settled = latest
            said = _understood(latest, str(path))
            if not _same(given, said):
                given = said
                yield said
        await asyncio.sleep(interval)


def restart_needed(old: Settings, new: Settings) -> tuple[str, ...]:
    """The keys (``proxy.idle_timeout``) that differ and that only a restart applies.

    Compare like with like: both as a file says them, or both with the options on top.
    """
    return tuple(key for key in _differing(old, new) if key not in LIVE_KEYS)


def _differing(old: Settings, new: Settings) -> Iterator[str]:
    for section in old.__struct_fields__:
        before, after = getattr(old, section), getattr(new, section)
        if isinstance(before, Section):
            for key in before.__struct_fields__:
                if getattr(before, key) != getattr(after, key):
                    yield f"{section}.{key}"
        elif before != after:
            yield section


# -- reading -------------------------------------------------------------------------------


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            str(path), [Problem("", f"the file can't be read: {error.strerror or error}")]
        ) from error


def _from_bytes(content: bytes, source: str) -> Settings:
    try:
        data = strictyaml.parse(content)
    except strictyaml.YamlError as error:
        raise ConfigError(source, [Problem("", str(error))]) from error
    if data is None:
        problem = Problem("", "it holds no settings; write {} when all defaults are meant")
        raise ConfigError(source, [problem])
    return _checked(data, source)


def _read_quietly(path: Path) -> bytes | ConfigError:
    try:
        return _read(path)
    except ConfigError as error:
        return error


def _understood(read: bytes | ConfigError, source: str) -> Settings | ConfigError:
    if isinstance(read, ConfigError):
        return read
    try:
        return _from_bytes(read, source)
    except ConfigError as error:
        return error


def _same(one: object, other: object) -> bool:
    """Equality, also of errors that say the same."""
    if isinstance(one, ConfigError) and isinstance(other, ConfigError):
        return one.problems == other.problems
    return one == other


# -- checking: what types say, then what they can't say ---------------------------------------


def _checked(data: object, source: str) -> Settings:
    problems = tuple(problems_in(data, Settings))
    if problems:
        raise ConfigError(source, problems)
    settings = msgspec.convert(data, Settings)
    problems = (
        *_routing_problems(settings.routing),
        *_port_problems(settings.listen, settings.admin),
        *_endpoint_problems(settings.endpoints),
    )
    if problems:
        raise ConfigError(source, problems)
    return settings


def _routing_problems(routing: RoutingSettings) -> Iterator[Problem]:
    try:
        make_policy(routing.policy)
    except ValueError as error:
        yield Problem("routing.policy", str(error))


def _port_problems(listen: ListenSettings, admin: AdminSettings) -> Iterator[Problem]:
    if listen.port == admin.port != 0 and listen.host == admin.host:
        yield Problem("admin.port", f"{admin.port} is listen.port already; choose another one")


def _endpoint_problems(endpoints: Iterable[EndpointSettings]) -> Iterator[Problem]:
    names: dict[str, int] = {}
    for index, settings in enumerate(endpoints):
        path = f"endpoints[{index}]"
        problem = _endpoint_problem(settings, path)
        if problem is not None:
            yield problem
            continue
        name = settings.endpoint().name
        first = names.setdefault(name, index)
        if first != index:
            yield Problem(
                f"{path}.name",
                f"{name!r} is the name of endpoints[{first}] already; choose another",
            )


def _endpoint_problem(settings: EndpointSettings, path: str) -> Problem | None:
    """The first fact that can't be. The message has the value: it knows what to leave out."""
    known: dict[str, Any] = {"url": settings.url}
    for key in ("url", "name", "engine", "models"):
        known[key] = getattr(settings, key)
        try:
            EndpointSettings(**known).endpoint()
        except ValueError as error:
            return Problem(f"{path}.{key}", str(error))
    return None
