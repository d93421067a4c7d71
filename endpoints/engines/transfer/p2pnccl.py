"""vLLM's P2pNcclConnector: both ends' addresses are in the request id, which both legs share.

The addresses are those of the engines' ZeroMQ sockets, which the label `ADDRESS_LABEL` gives
(``ip:port``). The prefill leg is answered before the decode leg is sent. Newer versions of vLLM
no longer have the connector.
"""

from typing import Final

from endpoints.engines.transfer.answer import PrefillAnswer
from endpoints.engines.transfer.dialect import Dialect, Handover, Leg, NoHandoverError, Place
from endpoints.engines.transfer.priming import one_token

ADDRESS_LABEL: Final = "kv-zmq-address"


class P2pNccl(Dialect):
    """``___prefill_addr_<P>___decode_addr_<D>_<id>``."""

    name = "p2pnccl"
    aliases = ("P2pNcclConnector",)

    def prefill(self, handover: Handover, api: str) -> Leg:
        """One token, under the id."""
        return Leg(one_token(api), request_id=_request_id(handover))

    def decode(self, handover: Handover, answer: PrefillAnswer | None) -> Leg:
        """The request as it is, under the same id."""
        del answer
        return Leg(request_id=_request_id(handover))


def _request_id(handover: Handover) -> str:
    prefill, decode = _address(handover.prefill), _address(handover.decode)
    return f"___prefill_addr_{prefill}___decode_addr_{decode}_{handover.room:032x}"


def _address(place: Place) -> str:
    address = place.labels.get(ADDRESS_LABEL)
    if not address:
        raise NoHandoverError("no_address", f"{place.name!r} has no label {ADDRESS_LABEL}")
    return address
