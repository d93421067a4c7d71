"""What a request wants of the KV transfer: to give its KV to somebody, or to take somebody's.

One reader a connector, each for the JSON that the real one reads. A *key* names one handover on
the server that gives; a *source* is that server, as the taker is told of it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from msgspec import Struct

from bench.fleet.errors import bad_request
from bench.fleet.settings import Connector


class HandoverFields(Struct, frozen=True, kw_only=True):
    """The fields of a body that tell servers where KV comes from and goes to."""

    kv_transfer_params: dict[str, Any] | None = None
    bootstrap_host: str | None = None
    bootstrap_port: int | None = None
    bootstrap_room: int | None = None


@dataclass(frozen=True, slots=True)
class Give:
    """Keep the prompt's KV for whoever comes with the key. ``attends``: and wait for them."""

    key: str
    attends: bool = False


@dataclass(frozen=True, slots=True)
class Take:
    """Fetch KV. ``waits``: it may not be computed yet. ``blocks``: how many were offered."""

    source: str
    key: str
    waits: bool = False
    engine_id: str | None = None
    blocks: int | None = None


@dataclass(frozen=True, slots=True)
class Deadly:
    """Parameters that the real engine dies of: at once, or when its client leaves."""

    what: str
    hangs: bool = False


@dataclass(frozen=True, slots=True)
class Wishes:
    """Both may be absent; ``deadly``: the request kills the engine."""

    give: Give | None = None
    take: Take | None = None
    deadly: Deadly | None = None
    shares: bool = field(default=False)
    """By content: what is computed is put into the shared store, and looked for there."""


_NOTHING = Wishes()
_NEEDED = ("remote_engine_id", "remote_request_id", "remote_host", "remote_port")


def _nixl(body: HandoverFields, headers: Mapping[str, str], own: str) -> Wishes:
    """Sequential; the engine's behaviour with incomplete objects is what vLLM 0.32 was seen to do.

    Without ``remote_block_ids`` its core dies of an assertion; without ``remote_engine_id`` the
    request hangs, and the core dies when the client leaves.
    """
    params = body.kv_transfer_params or {}
    if params.get("do_remote_decode"):
        return Wishes(give=Give(own))
    if not params.get("do_remote_prefill"):
        return _NOTHING
    blocks = params.get("remote_block_ids")
    if not blocks:
        return Wishes(deadly=Deadly("assert num_external_tokens == 0"))
    if any(name not in params for name in _NEEDED):
        return Wishes(deadly=Deadly("KeyError: 'remote_engine_id'", hangs=True))
    flat = blocks[0] if isinstance(blocks[0], list) else blocks
    return Wishes(
        take=Take(
            f"{params['remote_host']}:{params['remote_port']}",
            str(params["remote_request_id"]),
            engine_id=str(params["remote_engine_id"]),
            blocks=len(flat),
        )
    )


def _sglang(body: HandoverFields, headers: Mapping[str, str], own: str) -> Wishes:
    if body.bootstrap_room is None:
        raise bad_request("Disaggregated request received without bootstrap room id.")
    key = str(body.bootstrap_room)
    source = f"{body.bootstrap_host}:{body.bootstrap_port}"
    return Wishes(give=Give(key, attends=True), take=Take(source, key, waits=True))


def _mooncake(body: HandoverFields, headers: Mapping[str, str], own: str) -> Wishes:
    params = body.kv_transfer_params or {}
    key = params.get("transfer_id")
    if key is None:
        return _NOTHING
    if params.get("do_remote_decode"):
        return Wishes(give=Give(str(key)))
    address = str(params.get("remote_bootstrap_addr", "")).removeprefix("http://")
    engine = params.get("remote_engine_id")
    return Wishes(take=Take(address, str(key), waits=True, engine_id=engine))


def _older_mooncake(body: HandoverFields, headers: Mapping[str, str], own: str) -> Wishes:
    params = body.kv_transfer_params or {}
    key = headers.get("X-Request-Id", "")
    if params.get("do_remote_decode"):
        return Wishes(give=Give(key))
    if not params.get("do_remote_prefill"):
        return _NOTHING
    source = f"{params.get('bootstrap_server_host')}:{params.get('bootstrap_server_port')}"
    return Wishes(take=Take(source, key, waits=True))


def _offloading(body: HandoverFields, headers: Mapping[str, str], own: str) -> Wishes:
    params = body.kv_transfer_params or {}
    if "remote_decoder" in params:
        return Wishes(give=Give(str(params["remote_decoder"]["kv_request_id"])))
    if "remote_prefiller" not in params:
        return _NOTHING
    said = params["remote_prefiller"]
    source = f"{said['remote_host']}:{said['remote_port']}"
    return Wishes(take=Take(source, str(said["kv_request_id"])))


def _p2pnccl(body: HandoverFields, headers: Mapping[str, str], own: str) -> Wishes:
    """The addresses in the id are those of both servers; one of them is our own."""
    key = headers.get("X-Request-Id", "")
    prefill, found, _ = key.removeprefix("___prefill_addr_").partition("___decode_addr_")
    if not found:
        return _NOTHING
    return Wishes(give=Give(key), take=Take(prefill, key))


def _by_content(body: HandoverFields, headers: Mapping[str, str], own: str) -> Wishes:
    return Wishes(shares=True)


Reader = Callable[[HandoverFields, Mapping[str, str], str], Wishes]

_READERS: Mapping[Connector, Reader] = {
    Connector.NIXL: _nixl,
    Connector.SGLANG: _sglang,
    Connector.MOONCAKE: _mooncake,
    Connector.MOONCAKE_OLD: _older_mooncake,
    Connector.OFFLOADING: _offloading,
    Connector.P2PNCCL: _p2pnccl,
    Connector.EXAMPLE: _by_content,
    Connector.LMCACHE: _by_content,
}


def wishes_of(
    connector: Connector, body: HandoverFields, headers: Mapping[str, str], own: str
) -> Wishes:
    """What a request to a server with this connector wants; ``own``: the id it has there.

    Raises `bench.fleet.errors.RequestError` for what the engine refuses, as 400 where it would die
    of a type that nobody sends.
    """
    try:
        return _READERS[connector](body, headers, own)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise bad_request(f"kv_transfer_params can't be read: {error!r}") from None
