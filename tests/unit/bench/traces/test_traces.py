"""Reading recorded traffic and turning it into text."""

import gzip
from pathlib import Path

import pytest

from bench.traces.expand import block_text, prompt_text
from bench.traces.mooncake import SAMPLE, Row, TraceError, arrival_seconds, read

LINE = b'{"timestamp": 3000, "input_length": 600, "output_length": 5, "hash_ids": [7, 9]}\n'


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_plain_and_compressed_traces_read_alike(tmp_path: Path, pack: type[bytes]) -> None:
    path = tmp_path / "trace"
    path.write_bytes(pack(LINE + b"\n" + LINE))
    assert read(path) == [Row(3000, 600, 5, (7, 9))] * 2


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"{", "line 2"),
        (b'{"timestamp": 1, "input_length": "x", "output_length": 1, "hash_ids": []}', "input_len"),
        (b'{"timestamp": 1, "input_length": 1, "output_length": 1}', "hash_ids"),
        (b'{"timestamp":1,"input_length":513,"output_length":1,"hash_ids":[1]}', "longer than"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: bytes, said: str) -> None:
    path = tmp_path / "trace"
    path.write_bytes(LINE + line)
    with pytest.raises(TraceError, match=said) as caught:
        read(path)
    assert "line 2" in str(caught.value)


def test_a_missing_or_truncated_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="nowhere"):
        read(tmp_path / "nowhere")
    broken = tmp_path / "broken"
    broken.write_bytes(gzip.compress(LINE)[:-9])
    with pytest.raises(TraceError, match="broken"):
        read(broken)


def test_the_sample_is_there() -> None:
    rows = read(SAMPLE)
    assert len(rows) == 400
    assert arrival_seconds(rows) == sorted(arrival_seconds(rows))


def test_bursts_are_spread_until_the_next_one() -> None:
    rows = [Row(stamp, 1, 1, (1,)) for stamp in (0, 0, 0, 3000, 6000, 6000)]
    assert arrival_seconds(rows) == [0.0, 1.0, 2.0, 3.0, 6.0, 7.5]
    assert arrival_seconds([]) == []


def test_equal_ids_give_equal_text_and_lengths_follow_the_trace() -> None:
    assert block_text(1) == block_text(1) != block_text(2)
    assert len(block_text(3)) == 2048
    long, short = Row(0, 1000, 1, (1, 2)), Row(0, 700, 1, (1, 3))
    assert len(prompt_text(long)) == 4000 and len(prompt_text(short)) == 2800
    assert prompt_text(long)[:2048] == prompt_text(short)[:2048]
    assert prompt_text(long)[2048:2100] != prompt_text(short)[2048:2100]
