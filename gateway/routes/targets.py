"""Request targets of routed requests: the path that routes are compared with, the query."""

import re
from typing import Final
from urllib.parse import parse_qsl, unquote_to_bytes

from gateway.paths import BadTargetError

_ENCODED_SLASH: Final = re.compile(rb"%2[fF]")
_DOTS: Final = re.compile(r"/\.{1,2}(?:/|$)")


def routable_path(target: bytes) -> str:
    """The path of a request target, percent-decoded but for slashes, which stay ``%2F``.

    Raises `BadTargetError` for what the next hop could read in another way: dot segments, empty
    segments, backslashes, fragments, control bytes, or a form other than origin-form.
    """
    path = target.partition(b"?")[0]
    if not path.startswith(b"/"):
        raise BadTargetError("the request target must be a path that starts with /")
    if b"%" in path:
        path = unquote_to_bytes(_ENCODED_SLASH.sub(b"%252F", path))
    try:
        text = path.decode()
    except UnicodeDecodeError as error:
        raise BadTargetError("the path is not UTF-8") from error
    if "//" in text or "\\" in text or not text.isprintable() or b"#" in target:
        raise BadTargetError(
            "the path has an empty segment, a backslash, a fragment or a control byte"
        )
    if "/." in text and _DOTS.search(text):
        raise BadTargetError("the path has a dot segment")
    return text


def query_of(target: bytes) -> dict[str, str]:
    """The query's parameters; of several with one name the first."""
    query = target.partition(b"?")[2].decode("latin-1")
    found: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        found.setdefault(name, value)
    return found
