"""SGLang: both legs at once, the same body, meeting in a numbered room.

The prefill server's bootstrap server listens on port 8998 unless the label `PORT_LABEL` says
otherwise. The prefill leg is not cut to one token: an SGLang server in prefill mode stops after
the prompt by itself. Its answer is drained and dropped, also when decode is done first: an
abort would take the KV away. A server in decode mode can't compute a prompt, so a failed
handover can't be made good there. Not for ``/v1/responses``, whose bodies lack these fields
(sglang #35497).
"""

from typing import Final

import msgspec

from endpoints.engines.transfer.answer import PrefillAnswer
from endpoints.engines.transfer.dialect import Dialect, Edit, Handover, Leg, Order

PORT_LABEL: Final = "kv-bootstrap-port"
_PORT: Final = 8998

_encode: Final = msgspec.json.Encoder().encode


class Bootstrap(Dialect):
    """``bootstrap_host``, ``bootstrap_port``, ``bootstrap_room``."""

    name = "sglang"
    aliases = ("bootstrap",)
    order = Order.CONCURRENT
    apis = frozenset({"chat", "completions"})
    lease = 300.0  # SGLANG_DISAGGREGATION_WAITING_TIMEOUT
    alone = False

    def prefill(self, handover: Handover, api: str) -> Leg:
        """The request, with the room."""
        del api
        return Leg(_meeting(handover))

    def decode(self, handover: Handover, answer: PrefillAnswer | None) -> Leg:
        """The very same."""
        del answer
        return Leg(_meeting(handover))


def _meeting(handover: Handover) -> Edit:
    prefill = handover.prefill
    return Edit(
        put={
            "bootstrap_host": _encode(prefill.url_host),
            "bootstrap_port": _encode(prefill.number(PORT_LABEL, _PORT)),
            "bootstrap_room": _encode(handover.room),
        }
    )
