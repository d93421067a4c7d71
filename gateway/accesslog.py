"""One line a request, written without ever holding up the event loop.

`AccessLog.write` encodes the line and queues it, a few microseconds; a thread writes it (see
`gateway.background`). When the reader falls behind by `MAX_LINES`, further lines are dropped,
counted, and the count is logged.
"""

import logging
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal, TypeAlias

import msgspec

from gateway.background import BackgroundWriter
from gateway.record import RequestRecord, SplitRecord

MAX_LINES = 20_000
"""Lines waiting to be written; at about 600 bytes each, 12 MB."""
LONGEST_TEXT = 256
"""Characters of what clients choose freely (path, model, request id) in a line."""
_CLOSE_SECONDS = 2.0

LineFormat: TypeAlias = Callable[[RequestRecord, float], bytes]
"""A record and the time at which it ended (Unix time in seconds) -> its line."""

_log = logging.getLogger("inferway.access")


class AccessLog:
    """Writes requests to a file descriptor, in the format ``json`` or ``console``.

    A JSON line has every field of `RequestRecord` but ``started``, and ``ts`` (RFC 3339, when
    the request ended); what is not known is null. A console line has what matters most.
    """

    def __init__(self, line_format: Literal["console", "json"], fd: int = 1) -> None:
        self._line: LineFormat = json_line if line_format == "json" else console_line
        self._fd = fd
        self._writer = BackgroundWriter("access lines", self._flush, limit=MAX_LINES, log=_log)

    @property
    def dropped(self) -> int:
        """Lines that could not be written."""
        return self._writer.dropped

    def write(self, record: RequestRecord) -> None:
        """Queue the line of a finished request."""
        if self._writer.full:  # then it need not be encoded
            self._writer.dropped += 1
            return
        self._writer.put(self._line(record, time.time()))

    def close(self) -> None:
        """Write what is queued, for at most two seconds: nobody may be reading."""
        if not self._writer.close(_CLOSE_SECONDS):
            _log.warning("the access log can't be written", extra={"lines": self._writer.queued})

    def _flush(self, lines: list[bytes]) -> None:
        data = memoryview(b"".join(lines))
        while data:
            data = data[os.write(self._fd, data) :]


def json_line(record: RequestRecord, now: float) -> bytes:
    """A record as one JSON object and a newline; ``now`` is Unix time in seconds."""
    line = _encode(
        {
            "ts": datetime.fromtimestamp(now, UTC),
            "event": "request",
            "request_id": record.request_id[:LONGEST_TEXT],
            "client": record.client,
            "method": record.method,
            "path": record.path[:LONGEST_TEXT],
            "api": record.api,
            "model": record.model[:LONGEST_TEXT],
            "streamed": record.streamed,
            "status": record.status,
            "reason": record.reason,
            "endpoint": record.endpoint,
            "attempts": record.attempts,
            "retries": record.retries,
            "failed_endpoints": record.failed_endpoints,
            "bytes_in": record.bytes_in,
            "bytes_out": record.bytes_out,
            "ttft": _microseconds(record.ttft),
            "duration": _microseconds(record.duration),
            "output_events": record.output_events,
            "inter_token": _microseconds(record.inter_token),
            "waited_seconds": _microseconds(record.waited_seconds),
            "decision_seconds": _microseconds(record.decision_seconds),
            "prompt_tokens": record.prompt_tokens,
            "cached_tokens": record.cached_tokens,
            "completion_tokens": record.completion_tokens,
            "predicted_cached_tokens": record.predicted_cached_tokens,
            "predicted_ttft": _microseconds(record.predicted_ttft),
            "split": None if record.split is None else _split(record.split),
        }
    )
    return line + b"\n"


def console_line(record: RequestRecord, now: float) -> bytes:
    """A record as one line for people, with what is known of it."""
    parts = [
        time.strftime("%H:%M:%S", time.localtime(now)),
        f"{record.status or '-'}",
        _safe(record.method),
        _safe(record.path),
        f"{record.duration * 1000:.1f}ms",
    ]
    if record.model:
        parts.append(f"model={_safe(record.model)}")
    if record.endpoint:
        parts.append(f"endpoint={_safe(record.endpoint)}")
    if record.waited_seconds is not None:
        parts.append(f"waited={record.waited_seconds * 1000:.1f}ms")
    if record.ttft is not None:
        parts.append(f"ttft={record.ttft * 1000:.1f}ms")
    if record.prompt_tokens is not None:
        cached = "?" if record.cached_tokens is None else record.cached_tokens
        parts.append(f"prompt={record.prompt_tokens} cached={cached}")
    if record.completion_tokens is not None:
        parts.append(f"output={record.completion_tokens}")
    if record.split is not None and record.split.prefill_endpoint:
        parts.append(f"prefill={_safe(record.split.prefill_endpoint)}")
    if record.retries:
        parts.append(f"retries={','.join(record.retries)}")
    if record.reason:
        parts.append(f"reason={record.reason}")
    parts.append(f"id={_safe(record.request_id)}\n")
    return " ".join(parts).encode()


def _split(split: SplitRecord) -> dict[str, object]:
    """The fields of `SplitRecord`."""
    return {
        "connector": split.connector,
        "prefill_endpoint": split.prefill_endpoint,
        "prefill_seconds": _microseconds(split.prefill_seconds),
        "prefill_failures": split.prefill_failures,
        "fallback": split.fallback,
        "transfer_seconds": _microseconds(split.transfer_seconds),
        "transfer_bytes": split.transfer_bytes,
        "stranded_tokens": split.stranded_tokens,
    }


_encode = msgspec.json.Encoder(enc_hook=repr).encode


def _microseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)


def _safe(text: str) -> str:
    """Text of a client's, unable to forge a line, a field or a terminal's escape sequence."""
    text = text[:LONGEST_TEXT]
    if text.isprintable() and " " not in text:
        return text
    return ascii(text).replace(" ", "\\x20")
