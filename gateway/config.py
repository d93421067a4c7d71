"""One YAML file -> typed, validated, frozen settings.

What can be set, `gateway.settings` says. Unknown keys are errors, and an error says where it
is, which value is wrong and what would be right. docs/configuration.md explains each key.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Iterable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import msgspec

from endpoints.engines.transfer import dialect_named
from endpoints.scaling.actuators.processes import ProcessTemplate
from endpoints.scaling.policies import make_scaling_policy
from gateway import pickerconfig, strictyaml
from gateway.capacity import scaling_settings
from gateway.checking import Problem, problems_in
from gateway.settings import (
    AdminSettings,
    CorsSettings,
    EndpointSettings,
    KubernetesSettings,
    ListenSettings,
    LogSettings,
    ProxySettings,
    RoutingSettings,
    Section,
    Settings,
)
from routing.policies import make_policy
from routing.roles import SPELLINGS, unknown_role

__all__ = [
    "LIVE_KEYS",
    "AdminSettings",
    "ConfigError",
    "CorsSettings",
    "EndpointSettings",
    "ListenSettings",
    "LogSettings",
    "ProxySettings",
    "RoutingSettings",
    "Section",
    "Settings",
    "from_options",
    "from_text",
    "load",
    "restart_needed",
    "watch",
]


class ConfigError(ValueError):
    """A configuration that can't be used: where it came from and all that is wrong with it."""

    def __init__(self, source: str, problems: Iterable[Problem]) -> None:
        self.source = source
        self.problems = tuple(problems)
        super().__init__(source, self.problems)

    def __str__(self) -> str:
        return "\n  ".join([f"{self.source} can't be used:", *map(str, self.problems)])


_CONTROLLER = re.compile(r"[a-z0-9][a-z0-9.-]*/[A-Za-z0-9/._~%!$&'()*+,;=:-]+")

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


def _differing(old: Section, new: Section, prefix: str = "") -> Iterator[str]:
    for key in old.__struct_fields__:
        before, after = getattr(old, key), getattr(new, key)
        if isinstance(before, Section) and isinstance(after, Section):
            yield from _differing(before, after, f"{prefix}{key}.")
        elif before != after:
            yield prefix + key


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
        *_extproc_problems(settings),
        *_kubernetes_problems(settings.kubernetes),
        *_proxy_problems(settings.proxy),
        *_cors_problems(settings.cors),
        *_endpoint_problems(settings.endpoints),
        *_gateway_api_problems(settings),
        *_scaling_problems(settings),
    )
    if problems:
        raise ConfigError(source, problems)
    return settings


def _routing_problems(routing: RoutingSettings) -> Iterator[Problem]:
    try:
        make_policy(routing.policy)
    except ValueError as error:
        yield Problem("routing.policy", str(error))
    breaker = routing.breaker
    if breaker.max_open_seconds < breaker.open_seconds:
        yield Problem(
            "routing.breaker.max_open_seconds",
            f"{breaker.max_open_seconds} is less than open_seconds, {breaker.open_seconds}",
        )


def _port_problems(listen: ListenSettings, admin: AdminSettings) -> Iterator[Problem]:
    if listen.port == admin.port != 0 and listen.host == admin.host:
        yield Problem("admin.port", f"{admin.port} is listen.port already; choose another one")


def _extproc_problems(settings: Settings) -> Iterator[Problem]:
    extproc = settings.extproc
    if extproc is None:
        return
    for section, other in (("listen", settings.listen), ("admin", settings.admin)):
        if section == "listen" and extproc.alone:
            continue
        if extproc.port == other.port != 0 and extproc.host == other.host:
            yield Problem(
                "extproc.port", f"{extproc.port} is {section}.port already; choose another one"
            )
    if extproc.picker_config is not None:
        try:
            pickerconfig.load(extproc.picker_config)
        except pickerconfig.PickerConfigError as error:
            yield Problem("extproc.picker_config", str(error))
    if extproc.tls is not None and extproc.self_signed:
        yield Problem("extproc.self_signed", "true has no effect beside extproc.tls; drop one")
    if extproc.max_message_bytes < extproc.max_body_bytes:
        yield Problem(
            "extproc.max_message_bytes",
            f"{extproc.max_message_bytes} is less than max_body_bytes, {extproc.max_body_bytes}: "
            "in BUFFERED mode a body is one message",
        )


def _kubernetes_problems(kubernetes: KubernetesSettings | None) -> Iterator[Problem]:
    if kubernetes is None:
        return
    if kubernetes.url is not None and kubernetes.kubeconfig is not None:
        yield Problem("kubernetes.kubeconfig", "has no effect beside kubernetes.url; drop one")
    for key in ("token_file", "ca_file"):
        if getattr(kubernetes, key) is not None and kubernetes.url is None:
            yield Problem(f"kubernetes.{key}", "goes with kubernetes.url only")
    if kubernetes.context is not None and kubernetes.kubeconfig is None:
        yield Problem("kubernetes.context", "goes with kubernetes.kubeconfig only")
    for group in kubernetes.rule_groups:
        if group.count("/") != 1:
            yield Problem("kubernetes.rule_groups", f"{group!r} is not right; write group/version")
    if not kubernetes.inference_pools and not kubernetes.services:
        yield Problem(
            "kubernetes.services", "nothing is served: name a Service, or let inference_pools be"
        )


def _proxy_problems(proxy: ProxySettings) -> Iterator[Problem]:
    if proxy.upstream_ca_file is not None and not proxy.upstream_verify:
        yield Problem(
            "proxy.upstream_ca_file",
            f"{proxy.upstream_ca_file!r} is never looked at while upstream_verify is false",
        )


def _cors_problems(cors: CorsSettings) -> Iterator[Problem]:
    if cors.credentials and "*" in cors.origins:
        yield Problem(
            "cors.credentials", "true lets no page in with the origin *; name the origins"
        )


def _scaling_problems(settings: Settings) -> Iterator[Problem]:
    for name, pool in ({} if settings.scaling is None else settings.scaling.pools).items():
        path = f"scaling.pools.{name}"
        for role, of_role in pool.roles.items():
            where = f"{path}.roles.{role}"
            if of_role.target is not None and of_role.command is not None:
                yield Problem(
                    where, "give a target (Kubernetes) or a command (processes), not both"
                )
            elif of_role.command is not None:
                try:
                    ProcessTemplate(of_role.command)
                except ValueError as error:
                    yield Problem(f"{where}.command", str(error))
        acting = {bool(one.target or one.command) for one in pool.roles.values()}
        if len(acting) > 1:
            yield Problem(
                f"{path}.roles",
                "give every role a target or a command, or none: then others scale by our numbers",
            )
        try:
            make_scaling_policy(pool.policy)
        except ValueError as error:
            yield Problem(f"{path}.policy", str(error))
        try:
            scaling_settings(pool, settings.routing.objective)
        except ValueError as error:
            yield Problem(path, str(error))


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
    wrong = unknown_role(settings.labels.items())
    if wrong is not None:
        label, value = wrong
        roles = ", ".join(SPELLINGS)
        return Problem(f"{path}.labels.{label}", f"{value!r} is no role; use one of {roles}")
    connector = settings.endpoint().connector
    if connector:
        try:
            dialect_named(connector)
        except ValueError as error:
            return Problem(f"{path}.labels", str(error))
    return None


def _gateway_api_problems(settings: Settings) -> Iterator[Problem]:
    gateways = settings.gateway_api
    if gateways is None:
        return
    if settings.kubernetes is None:
        yield Problem("gateway_api", "needs a cluster: add a `kubernetes` section")
    if not gateways.addresses:
        yield Problem("gateway_api.addresses", "is empty: name an address to listen on")
    for key in ("addresses", "published"):
        for address in getattr(gateways, key):
            try:
                ip_address(address)
            except ValueError:
                yield Problem(f"gateway_api.{key}", f"{address!r} is no IP address")
    if not _CONTROLLER.fullmatch(gateways.controller):
        yield Problem(
            "gateway_api.controller",
            f"{gateways.controller!r} is not of the form example.com/name",
        )
