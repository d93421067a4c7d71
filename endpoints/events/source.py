"""Where one data-parallel rank of an endpoint publishes its cache events."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

from routing.endpoint import Endpoint

if TYPE_CHECKING:
    from endpoints.events.settings import EventSettings

ADDRESS_LABEL = "kv_events"
REPLAY_LABEL = "kv_events_replay"
TOPIC_LABEL = "kv_events_topic"
"""Labels of an endpoint that override the settings; the address "off" stands for none."""

_OFF = "off"
_TCP = re.compile(r"tcp://(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+):(?P<port>[0-9]{1,5})")
_IPC = re.compile(r"ipc://\S+")
_ANY_HOST = frozenset({"*", "0.0.0.0", "[::]", "::"})


@dataclass(frozen=True, slots=True)
class EventSource:
    """Addresses as ZeroMQ takes them; ``replay`` is None when nothing can be asked for again."""

    endpoint: str
    rank: int
    address: str
    replay: str | None = None
    topic: str = ""


def check_template(field: str, template: str) -> None:
    """Raise ValueError, naming the field, for what gives no address."""
    _resolved(field, template, "host", 0)


def sources_of(endpoint: Endpoint, settings: "EventSettings") -> tuple[EventSource, ...]:
    """The sources of an endpoint, one a rank, by its labels or else by the settings.

    Raises ValueError for labels that are no addresses.
    """
    labels = dict(endpoint.labels)
    address = labels.get(ADDRESS_LABEL, settings.address)
    if address == _OFF:
        return ()
    own = ADDRESS_LABEL in labels
    replay = labels.get(REPLAY_LABEL, None if own else settings.replay_address)
    topic = labels.get(TOPIC_LABEL, settings.topic)
    host = _host_of(endpoint.url)
    address_field = f"label {ADDRESS_LABEL} of {endpoint.name!r}" if own else "address"
    replay_field = f"label {REPLAY_LABEL} of {endpoint.name!r}" if own else "replay_address"
    return tuple(
        EventSource(
            endpoint.name,
            rank,
            _resolved(address_field, address, host, rank),
            None if replay in {None, _OFF} else _resolved(replay_field, replay or "", host, rank),
            topic,
        )
        for rank in range(settings.ranks)
    )


class _Told(msgspec.Struct):
    enable_kv_cache_events: bool = False
    publisher: str | None = None
    endpoint: str | None = None
    replay_endpoint: str | None = None
    topic: str = ""


def sources_told(page: bytes, endpoint: Endpoint) -> tuple[EventSource, ...]:
    """The sources on a ``/kv_event_sources`` page (vLLM in development mode), one a rank.

    What is bound to all interfaces is found at the endpoint's own host. Raises ValueError for a
    page that can't be read.
    """
    try:
        told = msgspec.json.decode(page, type=dict[str, _Told])
        ranks = {int(rank): one for rank, one in told.items()}
    except (msgspec.DecodeError, ValueError) as error:
        raise ValueError(f"unexpected list of event sources: {error}") from None
    host = _host_of(endpoint.url)
    return tuple(
        EventSource(
            endpoint.name,
            rank,
            _reachable("endpoint", one.endpoint, host),
            None if not one.replay_endpoint else _reachable("replay", one.replay_endpoint, host),
            one.topic,
        )
        for rank, one in sorted(ranks.items())
        if one.enable_kv_cache_events and one.publisher == "zmq" and one.endpoint
    )


def topic_names_other(topic: str, url: str) -> str | None:
    """The server that a topic names, when it surely is not the one at ``url``.

    By convention topics are ``kv@<host or host:port>@<model>``. Names can't be compared with
    addresses, so only two addresses, or two names, of which the port, if told, counts too.
    """
    parts = topic.split("@")
    if len(parts) < 3 or parts[0] != "kv":
        return None
    named = urlsplit(f"//{parts[1]}")
    ours = urlsplit(url)
    try:
        port = named.port
    except ValueError:
        return None
    theirs, host = named.hostname, ours.hostname
    if not theirs or not host or theirs in _ANY_HOST or theirs == "localhost":
        return None
    if _is_address(theirs) != _is_address(host):
        return None
    if theirs == host and port in {None, ours.port}:
        return None
    return parts[1]


def _is_address(host: str) -> bool:
    return ":" in host or re.fullmatch(r"[0-9.]+", host) is not None


def _host_of(url: str) -> str:
    host = urlsplit(url).hostname or ""
    return f"[{host}]" if ":" in host else host


def _resolved(field: str, template: str, host: str, rank: int) -> str:
    address = template.replace("{host}", host)
    found = _TCP.fullmatch(address)
    if found is not None:
        port = int(found["port"]) + rank
        if 0 < port < 1 << 16:
            return f"tcp://{found['host']}:{port}"
    elif _IPC.fullmatch(address):
        return address if rank == 0 else f"{address}_dp{rank}"
    raise ValueError(
        f"{field} is {template!r}; give tcp://HOST:PORT, such as tcp://{{host}}:5557, or ipc://PATH"
    )


def _reachable(field: str, address: str, host: str) -> str:
    found = _TCP.fullmatch(address)
    if found is not None and found["host"] in _ANY_HOST:
        address = f"tcp://{host}:{found['port']}"
    return _resolved(field, address, host, 0)
