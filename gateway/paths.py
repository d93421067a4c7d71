"""Request targets: what of them is matched, and what no honest client sends."""

from functools import lru_cache
from typing import Final
from urllib.parse import unquote_to_bytes

_LONGEST_KNOWN: Final = 128  # bytes of a target whose path is remembered


class BadTargetError(ValueError):
    """A request target that no honest client sends."""


def matchable_path(target: bytes) -> str:
    """The path of a request target, percent-decoded, as routes are matched against.

    Raises `BadTargetError` for anything whose meaning could differ between this hop and the
    next: dot segments, empty segments, backslashes, fragments, control bytes, or a form other
    than origin-form.
    """
    # The few paths that are asked for recur; what nobody asks twice is not worth the memory.
    return _known_path(target) if len(target) <= _LONGEST_KNOWN else _read_path(target)


def _read_path(target: bytes) -> str:
    path = target.partition(b"?")[0]
    if not path.startswith(b"/"):
        raise BadTargetError("the request target must be a path that starts with /")
    if b"%" in path:
        path = unquote_to_bytes(path)
    try:
        text = path.decode()
    except UnicodeDecodeError as error:
        raise BadTargetError("the path is not UTF-8") from error
    if "//" in text or "\\" in text or "/." in text or not text.isprintable() or b"#" in target:
        raise BadTargetError(
            "the path has an empty or dot segment, a backslash, a fragment or a control byte"
        )
    return text


_known_path: Final = lru_cache(maxsize=512)(_read_path)
