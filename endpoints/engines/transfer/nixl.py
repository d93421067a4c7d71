"""vLLM's NixlConnector in pull mode: prefill first, then decode with what prefill answered.

The prefill leg says ``do_remote_decode``; its answer's ``kv_transfer_params`` go into the decode
leg exactly as they are. Versions add fields and change shapes (``remote_block_ids`` was flat and
is a list for each cache group now), so nothing is built, trimmed or reordered here. A decode engine
dies of an object without its block ids or engine id, so one that lacks what every version needs
is not handed on at all. The blocks are pinned on the prefill server under a lease (30 s unless
``kv_lease_duration`` says otherwise; versions before leases: 480 s) and can be read once.
"""

from typing import Final

import msgspec

from endpoints.engines.transfer.answer import PrefillAnswer
from endpoints.engines.transfer.dialect import Dialect, Edit, Handover, Leg, NoHandoverError
from endpoints.engines.transfer.priming import one_token

_ASK: Final = (
    b'{"do_remote_decode":true,"do_remote_prefill":false,"remote_engine_id":null,'
    b'"remote_block_ids":null,"remote_host":null,"remote_port":null}'
)
_NEEDED: Final = ("remote_block_ids", "remote_engine_id", "remote_host", "remote_port")
_NEEDED_LATER: Final = "remote_request_id"  # by versions that also tell these:
_LATER: Final = frozenset({"tp_size", "remote_num_tokens"})

_params: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Nixl(Dialect):
    """``kv_transfer_params`` there and back, verbatim."""

    name = "nixl"
    aliases = ("nixlv2", "NixlConnector", "NixlPullConnector")
    lease = 30.0
    restores_usage = True

    def prefill(self, handover: Handover, api: str) -> Leg:
        """One token, and the wish to be continued elsewhere."""
        del handover
        return Leg(one_token(api, {"kv_transfer_params": _ASK}))

    def decode(self, handover: Handover, answer: PrefillAnswer | None) -> Leg:
        """The prefill server's own words."""
        del handover
        if answer is None or answer.params is None:
            raise NoHandoverError("no_params", "the prefill server gave no kv_transfer_params")
        try:
            said = _params.decode(answer.params)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise NoHandoverError("bad_params", f"kv_transfer_params: {error}") from None
        needed = _NEEDED if _LATER.isdisjoint(said) else (*_NEEDED, _NEEDED_LATER)
        for name in needed:
            if bytes(said.get(name, b"null")) in {b"null", b"[]", b'""'}:
                raise NoHandoverError("incomplete_params", f"kv_transfer_params lack {name}")
        if bytes(said.get("do_remote_prefill", b"true")) != b"true":
            raise NoHandoverError("incomplete_params", "kv_transfer_params offer no KV")
        return Leg(Edit(put={"kv_transfer_params": answer.params}))
