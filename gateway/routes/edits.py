"""What filters do to a request or a response; fields are (name, value) with names in lower case."""

from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

from gateway.routes.hosts import host_of
from gateway.routes.rules import HeaderEdit, PathKind, PathRewrite, Redirect, RequestMatch

Fields: TypeAlias = list[tuple[bytes, bytes]]

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class FieldEdits:
    """Header edits, made ready: one after another, each sets, adds and removes."""

    __slots__ = ("_steps",)

    def __init__(self, edits: Iterable[HeaderEdit]) -> None:
        self._steps = [
            (
                _encoded(edit.set),
                _encoded(edit.add),
                frozenset(name.encode() for name in edit.remove),
                frozenset(name.encode() for name, _ in edit.set),
            )
            for edit in edits
            if edit
        ]

    def __bool__(self) -> bool:
        return bool(self._steps)

    def applied(self, fields: Fields) -> Fields:
        """The fields as they are afterwards."""
        for put, added, removed, replaced in self._steps:
            fields = [one for one in fields if one[0] not in replaced]
            fields += put
            for name, value in added:
                fields = _with(fields, name, value)
            fields = [one for one in fields if one[0] not in removed]
        return fields


def _encoded(pairs: Sequence[tuple[str, str]]) -> Fields:
    return [(name.encode(), value.encode()) for name, value in pairs]


def _with(fields: Fields, name: bytes, value: bytes) -> Fields:
    """Append a value to those that the field has."""
    for at, (known, old) in enumerate(fields):
        if known == name and name != b"set-cookie":
            return [*fields[:at], (name, old + b"," + value), *fields[at + 1 :]]
    return [*fields, (name, value)]


def rewritten(target: bytes, match: RequestMatch, rewrite: PathRewrite) -> bytes:
    """The request target with another path; the query stays."""
    path, mark, query = target.partition(b"?")
    return _new_path(path, match, rewrite) + mark + query


def _new_path(path: bytes, match: RequestMatch, rewrite: PathRewrite) -> bytes:
    if not rewrite.prefix:
        return rewrite.value.encode() or b"/"
    prefix = match.path.value.rstrip("/") if match.path.kind is PathKind.PREFIX else ""
    # The path came percent-encoded in whichever way: count elements, not bytes.
    rest = path.split(b"/")[prefix.count("/") + 1 :]
    new = rewrite.value.rstrip("/").encode()
    return b"/".join([new, *rest]) if rest else new or b"/"


def location(
    redirect: Redirect,
    target: bytes,
    host: bytes,
    match: RequestMatch,
    *,
    scheme: str,
    port: int,
) -> bytes:
    """Where a redirect sends a request that came to ``host`` on a listener's scheme and port."""
    wanted = redirect.scheme or scheme
    if redirect.port is not None:
        port = redirect.port
    elif redirect.scheme is not None:
        port = _DEFAULT_PORTS.get(wanted, port)
    name = redirect.hostname or host_of(host)
    authority = name if port == _DEFAULT_PORTS.get(wanted) else f"{name}:{port}"
    if redirect.path is not None:
        target = rewritten(target, match, redirect.path)
    return f"{wanted}://{authority}".encode() + target
