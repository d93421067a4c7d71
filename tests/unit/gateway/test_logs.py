"""Events and access lines: their shape, and that neither clients nor slow readers do harm."""

import io
import json
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import fields
from datetime import datetime
from pathlib import Path

import pytest

from gateway import accesslog
from gateway.accesslog import AccessLog, console_line, json_line
from gateway.config import LogSettings
from gateway.logs import set_log_level, set_up_logging
from gateway.record import RequestRecord

NOON = 1_769_860_800.123456  # 2026-01-31T12:00:00.123456Z


def record(**values: object) -> RequestRecord:
    made = RequestRecord(
        request_id="abc",
        client="127.0.0.1",
        method="POST",
        path="/v1/chat/completions",
        started=5.0,
        api="chat",
        model="sim-8b",
        status=200,
        endpoint="a:1",
        attempts=1,
        duration=1.25,
    )
    for name, value in values.items():
        setattr(made, name, value)
    return made


# -- events --------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def events(line_format: str, level: str = "info") -> io.StringIO:
    stream = io.StringIO()
    settings = LogSettings(format=line_format, level=level)  # type: ignore[arg-type]
    set_up_logging(settings, stream)
    return stream


def test_a_json_event_has_its_fields_and_is_one_line() -> None:
    stream = events("json")
    logging.getLogger("inferway.test").warning(
        "lost %s\n", "a:1", extra={"endpoint": "a:1", "tries": 3}
    )
    (line,) = stream.getvalue().splitlines()
    event = json.loads(line)
    assert datetime.fromisoformat(event.pop("ts")).tzinfo is not None
    assert event == {
        "level": "warning",
        "logger": "inferway.test",
        "event": "lost a:1\n",
        "endpoint": "a:1",
        "tries": 3,
    }


def test_a_json_event_keeps_what_collides_and_shows_what_json_cannot_hold() -> None:
    stream = events("json")
    odd = {"level": "mine", "path": os, "text": "\ud800", "keys": {"\udc00": 3}}
    logging.getLogger().info("x", extra=odd)
    event = json.loads(stream.getvalue())
    assert event["level"] == "info"
    assert event["level_"] == "mine"
    assert event["path"].startswith("<module 'os'")
    assert event["text"] == r"'\ud800'"
    assert event["keys"] == r"{'\udc00': 3}"


def test_a_traceback_stays_within_its_json_event() -> None:
    stream = events("json")
    try:
        raise RuntimeError("boom")
    except RuntimeError:
        logging.getLogger().exception("failed")
    event = json.loads(stream.getvalue())
    assert event["event"] == "failed"
    assert event["exception"].endswith("RuntimeError: boom")


def test_a_console_event_is_a_readable_line() -> None:
    stream = events("console")
    logging.getLogger("x").error("went %s", "wrong", extra={"endpoint": "a:1"})
    moment, rest = stream.getvalue().split(" ", 1)
    assert datetime.strptime(moment, "%H:%M:%S.%f")
    assert rest == "error   went wrong endpoint=a:1\n"


def test_a_console_event_cannot_forge_lines_or_steer_the_terminal() -> None:
    stream = events("console")
    logging.getLogger("x").info("a\nb", extra={"model": "\x1b[2J\r"})
    assert stream.getvalue().endswith(r" info    a\nb model=\x1b[2J\r" + "\n")


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colours_are_for_terminals_that_want_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured, plain = _Terminal(), _Terminal()
    set_up_logging(LogSettings(), coloured)
    logging.getLogger().error("x")
    monkeypatch.setenv("NO_COLOR", "1")
    set_up_logging(LogSettings(), plain)
    logging.getLogger().error("x")
    assert "\x1b[31merror" in coloured.getvalue()
    assert "\x1b" not in plain.getvalue()


def test_setting_up_again_replaces_what_was_set_up_before() -> None:
    first, second = events("json"), events("console")
    logging.getLogger().info("x")
    assert first.getvalue() == ""
    assert second.getvalue().count("\n") == 1


def test_the_level_can_change_while_running() -> None:
    stream = events("console", level="error")
    logger = logging.getLogger("inferway.level")
    logger.info("one")
    set_log_level("info")
    logger.info("two")
    assert "one" not in stream.getvalue()
    assert "two" in stream.getvalue()


# -- the lines of requests -----------------------------------------------------------------


def test_a_json_line_has_every_field_of_the_record_and_null_for_what_is_not_known() -> None:
    line = json_line(record(ttft=0.12345678, retries=("connect_failed",)), NOON)
    assert line.endswith(b"}\n")
    entry = json.loads(line)
    assert entry.pop("ts") == "2026-01-31T12:00:00.123456Z"
    assert entry.pop("event") == "request"
    assert set(entry) == {field.name for field in fields(RequestRecord)} - {"started"}
    assert entry["ttft"] == 0.123457
    assert entry["duration"] == 1.25
    assert entry["retries"] == ["connect_failed"]
    assert entry["cached_tokens"] is None
    assert entry["inter_token"] is None


def test_a_console_line_has_what_is_known() -> None:
    line = console_line(record(), NOON).decode()
    assert line.split(" ", 1)[1] == (
        "200 POST /v1/chat/completions 1250.0ms model=sim-8b endpoint=a:1 id=abc\n"
    )
    line = console_line(
        record(
            status=502,
            reason="upstream_closed",
            retries=(
                "connect_failed",
                "status_503",
            ),
            ttft=0.5,
            prompt_tokens=10,
            completion_tokens=3,
        ),
        NOON,
    ).decode()
    assert "ttft=500.0ms prompt=10 cached=? output=3 " in line
    assert "retries=connect_failed,status_503 reason=upstream_closed id=abc" in line


def test_a_client_cannot_forge_a_console_line() -> None:
    line = console_line(
        record(path="/v1/a\n200", model="x\x1b[2J", request_id="x reason=none"), NOON
    )
    assert line.count(b"\n") == 1
    assert b"\x1b" not in line
    assert b" reason=" not in line


@pytest.mark.parametrize("make", [json_line, console_line])
def test_a_client_cannot_make_a_line_long(make: accesslog.LineFormat) -> None:
    long = "x" * 100_000
    assert len(make(record(path=long, model=long, request_id=long), NOON)) < 2_000


# -- writing them --------------------------------------------------------------------------


def test_every_line_is_written_in_order(tmp_path: Path) -> None:
    file = tmp_path / "access.log"
    fd = os.open(file, os.O_WRONLY | os.O_CREAT)
    log = AccessLog("json", fd)
    for number in range(1_000):
        log.write(record(request_id=str(number)))
    log.close()
    os.close(fd)
    lines = file.read_text().splitlines()
    assert [json.loads(line)["request_id"] for line in lines] == [str(n) for n in range(1_000)]
    assert log.dropped == 0


def test_lines_are_written_without_waiting_for_the_end() -> None:
    reader, writer = os.pipe()
    log = AccessLog("console", writer)
    log.write(record())
    assert os.read(reader, 4096).endswith(b"id=abc\n")
    log.write(record())
    assert os.read(reader, 4096).endswith(b"id=abc\n")
    log.close()
    os.close(reader)
    os.close(writer)


def test_a_reader_that_hangs_costs_lines_but_never_the_writer(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(accesslog, "MAX_LINES", 500)
    monkeypatch.setattr(accesslog, "_CLOSE_SECONDS", 0.05)
    reader, writer = os.pipe()
    log = AccessLog("json", writer)
    written = 0
    # Until the thread hangs in its write, lines wait behind it, and some found no room.
    while not log.dropped or written - log.dropped <= 500:
        log.write(record())
        written += 1
        time.sleep(0.0001)
    log.close()
    assert "can't be written" in caplog.text
    # The reader comes back: what was queued arrives whole.
    lines = b""
    while lines.count(b"\n") < written - log.dropped:
        lines += os.read(reader, 1 << 16)
    assert {json.loads(line)["request_id"] for line in lines.splitlines()} == {"abc"}
    log.close()
    assert "access lines dropped" in caplog.text
    os.close(reader)
    os.close(writer)


def test_a_reader_that_is_gone_is_survived(caplog: pytest.LogCaptureFixture) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    log = AccessLog("json", writer)
    log.write(record())
    log.close()
    assert log.dropped == 1
    assert "access lines dropped" in caplog.text
    os.close(writer)
