r"""Taking fields out of a JSON object, byte for byte around them.

Only the spans of the named top-level fields change: whatever else a client wrote reaches the
engine as it was written, and nothing is decoded and encoded again. Names are compared as JSON
means them, so ``"\u0061"`` is ``a``, and every occurrence of a field counts: which one of two
an engine believes differs from parser to parser.

The body must be a valid JSON object, as one that an operation has read is; ValueError for
what is none, as far as one looks. Values are passed over at native speed (220 KB: 0.1 ms);
each field costs two microseconds, which is why there may be no more than `MOST_FIELDS`.
"""

import re
from collections.abc import Collection, Iterator
from typing import Final, NamedTuple

import msgspec

MOST_FIELDS: Final = 1000
"""Top-level fields of a body that is spliced: honest ones have dozens, and millions would hold
up every other request."""

_SPACE: Final = re.compile(rb"[ \t\n\r]*+")
_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"')
_TRAILING: Final = re.compile(r"trailing characters \(byte (\d+)\)$")

_raw: Final = msgspec.json.Decoder(msgspec.Raw)
_name: Final = msgspec.json.Decoder(str)


class TooManyFieldsError(ValueError):
    """An object with more than `MOST_FIELDS` fields."""

    def __init__(self) -> None:
        super().__init__(f"it has more than {MOST_FIELDS} top-level fields")


class Member(NamedTuple):
    """One ``"name": value`` of an object; positions are bytes from the start of the body."""

    name: str
    start: int  # of the name
    value: int  # where the value starts
    end: int  # and ends
    comma: int | None  # the comma behind it


def spans(body: bytes, names: Collection[str]) -> list[tuple[int, int]]:
    """Where the fields called ``names`` stand, from the name's quote to the value's end."""
    return [(member.start, member.end) for member in members(body) if member.name in names]


def given_fields(body: bytes, names: Collection[str]) -> tuple[str, ...]:
    """Which of ``names`` the body gives a value other than null, wherever, in its order."""
    return tuple(
        dict.fromkeys(
            at.name
            for at in members(body)
            if at.name in names and body[at.value : at.end] != b"null"
        )
    )


def without_fields(body: bytes, names: Collection[str]) -> bytes:
    """The body less the fields called ``names``, each with one comma."""
    pieces: list[bytes] = []
    copied = 0
    comma_before: int | None = None  # the one between the last member that stays and this one
    for member in members(body):
        if member.name not in names:
            comma_before = member.comma
            continue
        if comma_before is not None:
            # Members stay before it: the comma between goes; the one behind takes its place.
            pieces += (body[copied:comma_before], body[comma_before + 1 : member.start])
            copied, comma_before = member.end, member.comma
        else:
            pieces.append(body[copied : member.start])
            copied = member.end
            if member.comma is not None:
                pieces.append(body[copied : member.comma])
                copied = member.comma + 1
    if not copied:
        return body
    pieces.append(body[copied:])
    return b"".join(pieces)


def members(body: bytes) -> Iterator[Member]:
    """The object's members in order."""
    view = memoryview(body)
    count = 0
    at = _skip_space(body, 0)
    if body[at : at + 1] != b"{":
        raise ValueError("not a JSON object")
    at = _skip_space(body, at + 1)
    while body[at : at + 1] != b"}":
        key = _STRING.match(body, at)
        if key is None:
            raise ValueError(f"no field name at byte {at}")
        colon = _skip_space(body, key.end())
        if body[colon : colon + 1] != b":":
            raise ValueError(f"no colon at byte {colon}")
        value = _skip_space(body, colon + 1)
        follows = _after_value(view, value)
        comma = follows if body[follows : follows + 1] == b"," else None
        end = follows
        if body[end - 1] in b" \t\n\r":
            end = value + len(body[value:follows].rstrip())
        if (count := count + 1) > MOST_FIELDS:
            raise TooManyFieldsError
        yield Member(_decoded(key[0]), at, value, end, comma)
        at = follows if comma is None else _skip_space(body, comma + 1)


def _decoded(string: bytes) -> str:
    try:
        return _name.decode(string)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"the field name {string[:40]!r} is no text") from error


def _skip_space(body: bytes, at: int) -> int:
    match = _SPACE.match(body, at)
    assert match is not None  # it also matches nothing
    return match.end()


def _after_value(view: memoryview, at: int) -> int:
    """Where the next byte behind the value at ``at`` is that is no space: a comma or a brace.

    msgspec skips a value at its native speed, without building it, and then complains about
    what follows, with the position. Nothing in Python itself gets over a value as fast.
    """
    try:
        _raw.decode(view[at:])
    except msgspec.DecodeError as error:
        trailing = _TRAILING.search(str(error))
        if trailing is not None:
            follows = at + int(trailing[1]) - 1
            if view[follows] in b",}":
                return follows
    except RecursionError:
        raise ValueError(f"the value at byte {at} is nested too deeply") from None
    raise ValueError(f"no value at byte {at}")
