"""Fields that bodies of most operations share, and their readings."""

from msgspec import Struct


class Common(Struct, gc=False):
    """What every operation reads. Unknown fields are skipped, ``null`` means absent."""

    model: str = ""
    stream: bool | None = None
    priority: int | float | None = None


class CommonPrompt(Common, gc=False):
    """What every operation with a prompt reads besides."""

    cache_salt: str | None = None


def output_limit(*limits: int | float | None) -> int | None:
    """The first limit given, in tokens; None without one.

    A negative limit is llama.cpp's way of setting none.
    """
    for limit in limits:
        if limit is not None:
            return int(limit) if limit >= 0 else None
    return None
