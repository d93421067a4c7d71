"""Setting fields of a JSON object, byte for byte around them; see `splice` for what that costs."""

from collections.abc import Collection, Mapping
from typing import Final

from gateway.apis.splice import members, without_fields

_SPACE: Final = b" \t\n\r"


def edited(
    body: bytes,
    put: Mapping[str, bytes],
    given: Mapping[str, bytes] | None = None,
    drop: Collection[str] = (),
) -> bytes:
    """The body with fields set or taken out; values are JSON.

    ``put`` are set in any case, ``given`` only where the body has a field of the name, and those
    in ``drop`` go. Each is there once afterwards, at the front, wherever and however often it was.
    Raises ValueError for a body that is no JSON object, as far as one looks.
    """
    names = {member.name for member in members(body)}
    new = dict(put)
    if given:
        new.update((name, value) for name, value in given.items() if name in names)
    gone = names & (new.keys() | set(drop))
    if gone:
        body = without_fields(body, gone)
    if not new:
        return body
    start = body.index(b"{") + 1
    rest = body[start:]
    fields = b",".join(b'"%b":%b' % (name.encode(), value) for name, value in new.items())
    comma = b"" if rest.lstrip(_SPACE).startswith(b"}") else b","
    return b"".join((body[:start], fields, comma, rest))


def fields_of(body: bytes) -> dict[str, bytes]:
    """The top-level fields and their values as they are written; of several the last."""
    return {member.name: body[member.value : member.end] for member in members(body)}
