"""What both legs of a split request say, before either is sent."""

from dataclasses import dataclass
from typing import Final

from endpoints.engines.transfer import Dialect, dialect_of
from endpoints.engines.transfer.dialect import (
    Handover,
    Leg,
    NoHandoverError,
    Order,
    Place,
    keeps_whole,
)
from gateway.apis.editing import edited, fields_of
from gateway.proxy.context import ProxyContext
from gateway.proxy.heads import Origin, RequestHead, request_head
from routing.decision import Decision
from routing.legs import PrefillLeg

_ROOM_BITS: Final = 63


@dataclass(frozen=True, slots=True)
class LegPlan:
    """One try at a split: the dialect, this handover, and what the legs say."""

    dialect: Dialect
    handover: Handover
    prefill: Leg
    decode: Leg | None
    """None: it depends on the answer to the prefill leg."""

    @property
    def concurrent(self) -> bool:
        """Whether both legs go out at once."""
        return self.decode is not None


def plan_legs(
    context: ProxyContext,
    decision: Decision,
    leg: PrefillLeg,
    api: str,
    body: bytes,
    request_id: str,
) -> LegPlan:
    """Plan a try. Raises `NoHandoverError` when the pair, or the request, can't be served so."""
    prefill = leg.endpoint.endpoint
    dialect = _dialect(decision, leg, api)
    try:
        fields = fields_of(body)
    except ValueError as error:
        raise NoHandoverError("unreadable_body", str(error)) from None
    if dialect.alone and any(keeps_whole(name, value) for name, value in fields.items()):
        raise NoHandoverError("whole_fields", "it asks for what only one endpoint can give")
    handover = Handover(
        prefill=Place.of(prefill),
        decode=Place.of(decision.endpoint.endpoint),
        request_id=request_id,
        room=context.dice.getrandbits(_ROOM_BITS),
        facts=context.kv_facts.of(dialect, prefill),
    )
    concurrent = dialect.order is Order.CONCURRENT
    return LegPlan(
        dialect,
        handover,
        dialect.prefill(handover, api),
        dialect.decode(handover, None) if concurrent else None,
    )


def _dialect(decision: Decision, leg: PrefillLeg, api: str) -> Dialect:
    """The dialect of both endpoints, if it is one, and knows the API."""
    decode = decision.endpoint
    dialect = dialect_of(leg.endpoint.endpoint, leg.endpoint.engine)
    if dialect is None:
        raise NoHandoverError("unknown_connector", f"nothing is known of {leg.name!r}")
    if dialect_of(decode.endpoint, decode.engine) is not dialect:
        raise NoHandoverError("other_connector", f"{leg.name!r} and {decode.name!r} differ")
    if api not in dialect.apis:
        raise NoHandoverError("other_api", f"{dialect.name} does not know {api}")
    return dialect


def leg_body(body: bytes, leg: Leg) -> bytes:
    """The client's body with what differs in a leg; everything else byte for byte."""
    edit = leg.edit
    return edited(body, edit.put, edit.given, edit.drop)


def leg_head(
    head: RequestHead, authority: bytes, leg: Leg, request_id: str, length: int, origin: Origin
) -> bytes:
    """The head of a leg; ``request_id`` is the leg's unless the leg itself says another one."""
    lines = b"".join(b"%b: %b\r\n" % header for header in leg.headers)
    name = (leg.request_id or request_id).encode()
    return request_head(head, authority, name, length, origin, lines)
