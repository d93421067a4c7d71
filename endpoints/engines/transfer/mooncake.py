"""vLLM's MooncakeConnector: both legs at once, the decode server asks the prefill server.

Newer versions meet by a transfer id, which the gateway makes up, at a bootstrap server beside
each prefill server (port 8998 unless the label `PORT_LABEL` says otherwise). The decode leg also
names the prefill engine by its id, which the bootstrap server tells: ``GET /query`` answers
``{"<dp rank>": {"engine_id": ...}}``, and the prefill leg is pinned to that rank. Older versions
(vLLM's mooncake_connector_proxy.py) name only host and port, and meet by equal request ids.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from endpoints.engines.transfer.answer import PrefillAnswer
from endpoints.engines.transfer.dialect import (
    Dialect,
    Edit,
    Handover,
    Leg,
    NoHandoverError,
    Order,
    Place,
)
from endpoints.engines.transfer.priming import one_token

PORT_LABEL: Final = "kv-bootstrap-port"
ENGINE_LABEL: Final = "kv-engine-id"
"""The prefill engine's id, where it is fixed: then nobody needs to be asked."""
_PORT: Final = 8998
_LEASE: Final = 480.0  # VLLM_MOONCAKE_ABORT_REQUEST_TIMEOUT
_ENGINE: Final = "engine_id"
_RANK: Final = "dp_rank"


class _Entry(msgspec.Struct):
    engine_id: str


_encode: Final = msgspec.json.Encoder().encode
_query: Final = msgspec.json.Decoder(dict[str, _Entry])


class Mooncake(Dialect):
    """By transfer id and engine id."""

    name = "mooncake"
    aliases = ("MooncakeConnector",)
    order = Order.CONCURRENT
    lease = _LEASE

    def prefill(self, handover: Handover, api: str) -> Leg:
        """One token, offered under the transfer id, on the rank that the decode leg will name."""
        params = {
            "do_remote_decode": True,
            "do_remote_prefill": False,
            "transfer_id": _transfer_id(handover),
        }
        rank = handover.facts.get(_RANK)
        headers = () if rank is None else ((b"x-data-parallel-rank", rank.encode()),)
        return Leg(one_token(api, {"kv_transfer_params": _encode(params)}), headers)

    def decode(self, handover: Handover, answer: PrefillAnswer | None) -> Leg:
        """Where the KV is, under which id."""
        del answer
        prefill = handover.prefill
        engine = prefill.labels.get(ENGINE_LABEL) or handover.facts.get(_ENGINE)
        if engine is None:
            raise NoHandoverError("unknown_engine", f"the engine id of {prefill.name!r}")
        params = {
            "do_remote_decode": False,
            "do_remote_prefill": True,
            "transfer_id": _transfer_id(handover),
            "remote_bootstrap_addr": _bootstrap(prefill),
            "remote_engine_id": engine,
        }
        return Leg(Edit(put={"kv_transfer_params": _encode(params)}))

    def facts_url(self, prefill: Place) -> str | None:
        """Where the engine id is told."""
        return None if ENGINE_LABEL in prefill.labels else f"{_bootstrap(prefill)}/query"

    def read_facts(self, page: bytes) -> Mapping[str, str]:
        """The engine of the lowest rank."""
        try:
            engines = _query.decode(page)
            rank = min(engines, key=int)
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
            raise ValueError(f"unexpected answer to /query: {error}") from None
        return {_ENGINE: engines[rank].engine_id, _RANK: rank}


class OlderMooncake(Dialect):
    """By host, port and equal request ids."""

    name = "mooncake-old"
    order = Order.CONCURRENT
    lease = _LEASE

    def prefill(self, handover: Handover, api: str) -> Leg:
        """One token, offered."""
        params = b'{"do_remote_decode":true,"do_remote_prefill":false}'
        edit = one_token(api, {"kv_transfer_params": params})
        return Leg(edit, request_id=handover.request_id)

    def decode(self, handover: Handover, answer: PrefillAnswer | None) -> Leg:
        """Where it is offered."""
        del answer
        params = {
            "do_remote_decode": False,
            "do_remote_prefill": True,
            "bootstrap_server_host": handover.prefill.host,
            "bootstrap_server_port": handover.prefill.number(PORT_LABEL, _PORT),
        }
        edit = Edit(put={"kv_transfer_params": _encode(params)})
        return Leg(edit, request_id=handover.request_id)


def _transfer_id(handover: Handover) -> str:
    return f"xfer-{handover.request_id}-{handover.room:016x}"


def _bootstrap(prefill: Place) -> str:
    return f"http://{prefill.url_host}:{prefill.number(PORT_LABEL, _PORT)}"
