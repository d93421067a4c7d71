"""vLLM's OffloadingConnector with its peer-to-peer tier: the decode server pulls by an id of ours.

Sequential although both legs could be sent at once: sent together, the decode server's load
time-out ran while prefill was queueing (llm-d-router #2438, #2451). The tier listens on port 7777
unless the label `PORT_LABEL` says otherwise.
"""

from typing import Final

import msgspec

from endpoints.engines.transfer.answer import PrefillAnswer
from endpoints.engines.transfer.dialect import Dialect, Edit, Handover, Leg
from endpoints.engines.transfer.priming import one_token

PORT_LABEL: Final = "kv-p2p-port"
_PORT: Final = 7777

_encode: Final = msgspec.json.Encoder().encode


class Offloading(Dialect):
    """``remote_decoder`` on one side, ``remote_prefiller`` on the other."""

    name = "offloading"
    aliases = ("OffloadingConnector",)

    def prefill(self, handover: Handover, api: str) -> Leg:
        """One token, kept for the id."""
        params = {"remote_decoder": {"kv_request_id": _id(handover)}}
        return Leg(one_token(api, {"kv_transfer_params": _encode(params)}))

    def decode(self, handover: Handover, answer: PrefillAnswer | None) -> Leg:
        """Where the id's KV is."""
        del answer
        prefill = handover.prefill
        params = {
            "remote_prefiller": {
                "kv_request_id": _id(handover),
                "remote_host": prefill.host,
                "remote_port": prefill.number(PORT_LABEL, _PORT),
            }
        }
        return Leg(Edit(put={"kv_transfer_params": _encode(params)}))


def _id(handover: Handover) -> str:
    return f"kv-{handover.request_id}-{handover.room:016x}"
