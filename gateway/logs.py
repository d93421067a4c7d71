"""What is written: events through the standard library's logging, requests through `AccessLog`.

Events go to standard error, rare enough to be written on the spot. Requests go to standard
output, one line each, by a thread of their own: see `gateway.accesslog`.
"""

import logging
import os
import sys
from datetime import UTC, datetime
from typing import TextIO

import msgspec

from gateway.accesslog import AccessLog
from gateway.config import LogSettings

__all__ = ["AccessLog", "set_log_level", "set_up_logging"]

_OWN_ATTRIBUTES = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}
_RESERVED = frozenset({"ts", "level", "logger", "event", "exception"})
_DIM = "\x1b[2m"
_COLOURS = {
    logging.DEBUG: _DIM,
    logging.WARNING: "\x1b[33m",
    logging.ERROR: "\x1b[31m",
    logging.CRITICAL: "\x1b[1;31m",
}
_PLAIN = "\x1b[0m"


def set_up_logging(settings: LogSettings, stream: TextIO | None = None) -> None:
    """Send all events of the process to ``stream`` (standard error), in the format set.

    Called again, it replaces what it set up before.
    """
    stream = sys.stderr if stream is None else stream
    handler = _EventHandler(stream)
    if settings.format == "json":
        handler.setFormatter(JsonFormatter())
    else:
        coloured = stream.isatty() and "NO_COLOR" not in os.environ
        handler.setFormatter(ConsoleFormatter(coloured=coloured))
    root = logging.getLogger()
    for other in root.handlers[:]:
        if isinstance(other, _EventHandler):
            root.removeHandler(other)
    root.addHandler(handler)
    set_log_level(settings.level)


def set_log_level(level: str) -> None:
    """Write events of this level (``debug``, ``info``, ...) and above from now on."""
    logging.getLogger().setLevel(level.upper())


class _EventHandler(logging.StreamHandler[TextIO]):
    """The handler that `set_up_logging` owns, told apart from those of others."""


class ConsoleFormatter(logging.Formatter):
    """Lines for people: time, level, what happened, and the fields that came with it."""

    def __init__(self, *, coloured: bool) -> None:
        super().__init__()
        self._coloured = coloured

    def format(self, record: logging.LogRecord) -> str:
        """One line, and the traceback below it when there is one."""
        moment = datetime.fromtimestamp(record.created).astimezone()
        level = f"{record.levelname.lower():<7}"
        if self._coloured and record.levelno in _COLOURS:
            level = f"{_COLOURS[record.levelno]}{level}{_PLAIN}"
        fields = "".join(f" {name}={value}" for name, value in _extra(record).items())
        fields = _visible(fields)
        if self._coloured and fields:
            fields = f"{_DIM}{fields}{_PLAIN}"
        time = f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03d}"
        line = f"{time} {level} {_visible(record.getMessage())}{fields}"
        trace = _traceback(self, record)
        return f"{line}\n{trace}" if trace else line


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ts (RFC 3339), level, logger, event, extra fields."""

    def format(self, record: logging.LogRecord) -> str:
        """One line. A field that takes one of our names is written with an underscore behind."""
        line: dict[str, object] = {
            "ts": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        for name, value in _extra(record).items():
            line[f"{name}_" if name in _RESERVED else name] = value
        trace = _traceback(self, record)
        if trace:
            line["exception"] = trace
        return _encoded(line)


def _extra(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in record.__dict__.items() if name not in _OWN_ATTRIBUTES}


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    parts = []
    if record.exc_info:
        parts.append(formatter.formatException(record.exc_info))
    if record.stack_info:
        parts.append(formatter.formatStack(record.stack_info))
    return "\n".join(parts)


def _encoded(line: dict[str, object]) -> str:
    try:
        return _encode(line).decode()
    except _UNENCODABLE:
        return _encode({name: _encodable(value) for name, value in line.items()}).decode()


def _encodable(value: object) -> object:
    """The value, or its ASCII picture when JSON can't hold it: lone surrogates, odd keys."""
    try:
        _encode(value)
    except _UNENCODABLE:
        return ascii(value)
    return value


_encode = msgspec.json.Encoder(enc_hook=repr).encode
_UNENCODABLE = (TypeError, ValueError, RecursionError)


def _visible(text: str) -> str:
    """Text that stays on its line and holds no escape sequence for the terminal."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)
