"""The traffic log: what a line says, that it says no text, and that its file stays in bounds."""

import json
import os
import stat
import time
from array import array
from pathlib import Path
from typing import Any

import pytest

from gateway import trafficlog
from gateway.record import RequestRecord
from gateway.trafficlog import TrafficLog
from routing.prefix.chain import text_chain
from routing.request import Chain, Request

SECRET = b"0123456789abcdef"


def record(**values: object) -> RequestRecord:
    made = RequestRecord(
        request_id="abc",
        client="192.0.2.7",
        method="POST",
        path="/v1/chat/completions",
        started=5.0,
        api="chat",
        model="sim-8b",
        status=200,
        endpoint="a:1",
        duration=1.25,
    )
    for name, value in values.items():
        setattr(made, name, value)
    return made


def request(*chains: Chain, prompt_tokens: float = 1000.0) -> Request:
    return Request(id="abc", model="sim-8b", chains=chains, prompt_tokens=prompt_tokens)


def blocks(count: int, first: int = 1) -> Chain:
    return array("Q", range(first, first + count))


def written(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def logged(path: Path, *entries: tuple[RequestRecord, Request], **settings: Any) -> list[Any]:
    log = TrafficLog(path, secret=SECRET, **settings)
    for entry in entries:
        log.write(*entry)
    log.close()
    assert log.dropped == 0
    return written(path)[1:]


def test_a_line_says_what_a_replay_needs(tmp_path: Path) -> None:
    began = time.time()
    seen = record(
        prompt_tokens=1100, completion_tokens=33, cached_tokens=512, ttft=0.5, output_events=30
    )
    (line,) = logged(tmp_path / "traffic", (seen, request(blocks(16))), block_tokens=128)
    assert began - 1.25 - 1e-3 <= line.pop("at") <= time.time() - 1.25
    (ids,) = line.pop("prompts")
    assert line == {
        "model": "sim-8b",
        "status": 200,
        "endpoint": "a:1",
        "prompt_tokens": 1100,
        "prompt_reported": True,
        "output_tokens": 33,
        "output_reported": True,
        "cached_tokens": 512,
        "ttft": 0.5,
        "duration": 1.25,
        "block_tokens": 128.0,
    }
    assert len(ids) == len(set(ids)) == 8
    assert all(0 <= one < 1 << 53 for one in ids)


def test_counts_that_no_engine_reported_are_marked(tmp_path: Path) -> None:
    counted, unknown = logged(
        tmp_path / "traffic",
        (record(output_events=30), request(prompt_tokens=999.6)),
        (record(), request()),
    )
    assert (counted["prompt_tokens"], counted["prompt_reported"]) == (1000, False)
    assert (counted["output_tokens"], counted["output_reported"]) == (30, False)
    assert unknown["output_tokens"] is None and unknown["cached_tokens"] is None
    assert unknown["prompts"] == []


def test_prompts_share_exactly_the_ids_of_the_blocks_they_share(tmp_path: Path) -> None:
    text = bytes(range(256)) * 32
    chains = [text_chain(b"m", text + b"a" * 1024), text_chain(b"m", text + b"b" * 1024)]
    one, other = logged(
        tmp_path / "traffic",
        *((record(), request(chain)) for chain in chains),
        block_tokens=256,
    )
    (first,), (second,) = one["prompts"], other["prompts"]
    assert len(first) == len(second) == 9
    assert first[:8] == second[:8] and first[8] != second[8]


def test_every_prompt_of_a_batch_has_a_list_of_its_own(tmp_path: Path) -> None:
    (line,) = logged(
        tmp_path / "traffic", (record(), request(blocks(8), blocks(4, 100), blocks(3)))
    )
    assert [len(ids) for ids in line["prompts"]] == [2, 1, 0]


def test_without_the_secret_a_guessed_prompt_can_not_be_found(tmp_path: Path) -> None:
    chain = blocks(8)
    found = []
    for number in range(2):
        log = TrafficLog(tmp_path / str(number))
        log.write(record(), request(chain))
        log.close()
        header, line = written(tmp_path / str(number))
        found.append((header["salt"], *line["prompts"][0]))
    assert not set(found[0]) & set(found[1])
    assert not set(chain) & {one for ids in found for one in ids}


def test_nothing_of_the_client_or_its_text_is_in_the_file(tmp_path: Path) -> None:
    chain = text_chain(b"m", b"a secret that must not leak " * 100)
    logged(tmp_path / "traffic", (record(), request(chain)))
    text = (tmp_path / "traffic").read_text()
    assert "secret that" not in text and "192.0.2.7" not in text and "abc" not in text
    assert SECRET.decode() not in text and SECRET.hex() not in text
    assert stat.S_IMODE((tmp_path / "traffic").stat().st_mode) == 0o600


def test_a_full_file_is_put_aside_and_only_so_many_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "traffic"
    entries = [(record(model=f"m{n}"), request(blocks(40))) for n in range(100)]
    logged(path, *entries, max_bytes=4096, keep=2)
    files = [path, tmp_path / "traffic.1", tmp_path / "traffic.2"]
    assert sorted(tmp_path.iterdir()) == files
    models = []
    for file in reversed(files):
        assert file.stat().st_size <= 4096
        header, *lines = written(file)
        assert (header["format"], header["version"]) == ("inferway.traffic", 1)
        assert header["salt"] == trafficlog.fingerprint(SECRET)
        models += [line["model"] for line in lines]
    assert models == [f"m{n}" for n in range(100 - len(models), 100)]
    assert len(models) >= 6


def test_a_file_is_continued_only_when_its_ids_are_comparable(tmp_path: Path) -> None:
    path = tmp_path / "traffic"
    logged(path, (record(model="first"), request()))
    assert [one["model"] for one in logged(path, (record(model="second"), request()))] == [
        "first",
        "second",
    ]
    log = TrafficLog(path, secret=b"another secret, as long")
    log.close()
    assert [len(written(file)) for file in (path, tmp_path / "traffic.1")] == [1, 3]
    with path.open("ab") as file:
        file.write(b'{"at": torn by a cra')
    logged(path, (record(), request()))
    assert len(written(path)) == 2


def test_a_disk_that_is_full_costs_lines_and_never_tears_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "traffic"
    log = TrafficLog(path, secret=SECRET)
    real = os.write
    before = path.read_bytes()

    def full(fd: int, data: memoryview) -> int:
        if len(data) > 20:
            return real(fd, data[:20])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        log.write(record(), request())
        while not log.dropped:
            time.sleep(0.01)
    assert path.read_bytes() == before
    log.write(record(model="later"), request())
    log.close()
    assert [line["model"] for line in written(path)[1:]] == ["later"]
    assert "No space left" in caplog.text and "traffic lines dropped" in caplog.text


def test_more_requests_than_may_wait_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trafficlog, "MAX_WAITING", 0)
    log = TrafficLog(tmp_path / "traffic")
    log.write(record(), request())
    log.close()
    assert log.dropped == 1 and len(written(tmp_path / "traffic")) == 1


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"block_tokens": 0}, "block_tokens"),
        ({"max_bytes": 10}, "max_bytes"),
        ({"keep": -1}, "keep"),
        ({"secret": b"short"}, "secret"),
    ],
)
def test_settings_that_make_no_sense_are_named(
    tmp_path: Path, settings: dict[str, Any], word: str
) -> None:
    with pytest.raises(ValueError, match=word):
        TrafficLog(tmp_path / "traffic", **settings)


def test_a_folder_that_is_not_there_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        TrafficLog(tmp_path / "nowhere" / "traffic")
