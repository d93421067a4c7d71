"""Reading a field of a ``multipart/form-data`` body (RFC 7578) without its Content-Type header."""

import re
from typing import Final

_NAME: Final = re.compile(
    rb"^content-disposition:[^\r\n]*?;\s*name=(?:\"([^\"\r\n]*)\"|([^;\s]*))",
    re.IGNORECASE | re.MULTILINE,
)

_MAX_HEADERS: Final = 4096
"""Bytes of a part's headers that are looked at."""


def form_fields(body: bytes, names: frozenset[str]) -> dict[str, str]:
    """Find the text fields called `names`: the first of each; {} when the body is no form.

    The delimiter is taken from the body's first line, where the format puts it; a file's
    bytes are skipped over at the speed of a substring search.
    """
    end_of_line = body.find(b"\r\n", 0, 80)  # a delimiter has at most 72 bytes
    if not body.startswith(b"--") or end_of_line < 0:
        return {}
    delimiter = b"\r\n" + body[:end_of_line].rstrip()
    found: dict[str, str] = {}
    start = end_of_line + 2
    while len(found) < len(names) and (end := body.find(delimiter, start)) >= 0:
        head = body.find(b"\r\n\r\n", start, min(end, start + _MAX_HEADERS))
        match = _NAME.search(body, start, head) if head >= 0 else None
        if match:
            name = (match[1] or match[2] or b"").decode(errors="replace")
            if name in names:
                found.setdefault(name, body[head + 4 : end].decode(errors="replace"))
        start = body.find(b"\r\n", end + len(delimiter))
        if start < 0:
            break
        start += 2
    return found
