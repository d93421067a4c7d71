"""Reading loads: what is recognised, what requests it gives, and errors that say where."""

import gzip
import json
from array import array
from pathlib import Path

import pytest

from bench.replay.workload import Workload
from bench.replay.workloads import TraceError, load
from bench.replay.workloads.shared_prefix import SharedPrefix, shared_prefix
from gateway.record import RequestRecord
from gateway.trafficlog import TrafficLog
from routing.request import Request

AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,600,44
2023-11-16 18:15:50.9305900,512,109
2023-11-16 18:15:48.6805900,0,0
"""
MOONCAKE = {"timestamp": 0, "input_length": 1000, "output_length": 7, "hash_ids": [1, 2]}
HEADER = {"format": "inferway.traffic", "version": 1, "salt": "x"}
LINE = {
    "at": 1000.5,
    "model": "m",
    "status": 200,
    "prompt_tokens": 100,
    "output_tokens": 10,
    "block_tokens": 64.0,
    "prompts": [[11]],
}


def shared(workload: Workload, one: int, other: int) -> int:
    """Leading blocks that two requests share."""
    pairs = zip(workload.arrivals[one].blocks, workload.arrivals[other].blocks, strict=False)
    count = 0
    for a, b in pairs:
        if a != b:
            break
        count += 1
    return count


def file_of(tmp_path: Path, content: str | bytes, name: str = "trace") -> str:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def jsonl(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def covers(workload: Workload) -> bool:
    """Whether every request has as many blocks as its prompt needs, and time goes forward."""
    at = [one.at for one in workload.arrivals]
    return (
        at == sorted(at)
        and at[0] == 0.0
        and all(
            len(one.blocks) == -(-one.prompt_tokens // workload.block_tokens)
            for one in workload.arrivals
        )
    )


# -- recorded ------------------------------------------------------------------------------


def test_the_sample_is_a_load() -> None:
    found = load("sample").workload
    assert len(found.arrivals) == 400 and found.block_tokens == 512
    assert covers(found)
    assert load("sample", requests=30).workload.arrivals == found.arrivals[:30]


def test_a_mooncake_trace_is_recognised_also_compressed(tmp_path: Path) -> None:
    data = gzip.compress(jsonl(MOONCAKE, {**MOONCAKE, "timestamp": 3000}).encode())
    found = load(file_of(tmp_path, data, "chats.jsonl.gz")).workload
    assert found.name == "chats"
    assert [one.at for one in found.arrivals] == [0.0, 3.0]
    assert found.arrivals[0].blocks == (1, 2) and found.arrivals[0].prompt_tokens == 1000


def test_azure_prompts_are_unique_and_in_the_order_of_time(tmp_path: Path) -> None:
    found = load(file_of(tmp_path, AZURE, "azure.csv"))
    arrivals = found.workload.arrivals
    assert [one.at for one in arrivals] == pytest.approx([0.0, 2.0, 4.25])
    assert [one.prompt_tokens for one in arrivals] == [600, 1, 512]
    assert [one.output_tokens for one in arrivals] == [44, 1, 109]
    blocks = [block for one in arrivals for block in one.blocks]
    assert len(blocks) == len(set(blocks)) and covers(found.workload)
    assert "unique" in found.notes[0]


def test_what_a_gateway_logged_can_be_replayed(tmp_path: Path) -> None:
    log = TrafficLog(tmp_path / "traffic", block_tokens=64)
    chains = [array("Q", [1, 2, 3, 4]), array("Q", [1, 2, 30, 40])]
    for number, chain in enumerate(chains):
        record = RequestRecord("id", "c", "POST", "/", 0.0, model="m", status=200)
        record.prompt_tokens, record.completion_tokens, record.endpoint = 300, 20 + number, "a"
        log.write(record, Request("id", "m", (chain,), prompt_tokens=280.0))
    log.close()
    found = load(str(tmp_path / "traffic"))
    assert [one.output_tokens for one in found.workload.arrivals] == [20, 21]
    assert found.workload.block_tokens == round(300 / 4.5)  # four blocks and a tail
    assert covers(found.workload) and shared(found.workload, 0, 1) == 2
    assert found.notes == ()


def test_logged_prompts_get_the_blocks_that_their_real_length_needs(tmp_path: Path) -> None:
    content = jsonl(
        HEADER,
        {**LINE, "prompt_tokens": 250, "prompts": [[1, 2]]},
        {**LINE, "prompt_tokens": 30, "prompts": [[1, 2]], "at": 1001.5},  # more ids than length
        {**LINE, "prompt_tokens": 400, "prompts": [[1, 2]], "at": 1002.5},  # and less
        {**LINE, "prompt_tokens": 80, "prompts": [], "at": 1003.5},
    )
    found = load(file_of(tmp_path, content)).workload
    assert found.block_tokens == round(680 / 7.5)
    assert covers(found)
    assert shared(found, 0, 2) == 2 and shared(found, 0, 1) == 0
    assert [one.at for one in found.arrivals] == [0.0, 1.0, 2.0, 3.0]


def test_a_batch_is_an_arrival_a_prompt(tmp_path: Path) -> None:
    content = jsonl(
        HEADER, {**LINE, "prompt_tokens": 330, "output_tokens": 20, "prompts": [[1, 2, 3], [1]]}
    )
    found = load(file_of(tmp_path, content)).workload
    assert [one.prompt_tokens for one in found.arrivals] == [231, 99]
    assert [one.output_tokens for one in found.arrivals] == [10, 10]
    assert covers(found) and shared(found, 0, 1) == 1


def test_what_was_no_work_is_left_out_and_said(tmp_path: Path) -> None:
    content = jsonl(
        HEADER,
        LINE,
        {**LINE, "status": 404},
        {**LINE, "status": 499},
        {**LINE, "status": 429, "output_tokens": None},
        {**LINE, "model": "other", "prompt_tokens": 0},
        {**LINE, "model": "another"},
    )
    found = load(file_of(tmp_path, content, "log"))
    assert len(found.workload.arrivals) == 4
    assert found.notes == (
        "log: 2 refused or empty requests are left out",
        "log: its 2 models are replayed as one",
        "log: 1 requests of unknown output are replayed with one token each",
    )


def test_a_log_that_is_still_written_is_read_up_to_its_last_whole_line(tmp_path: Path) -> None:
    content = jsonl(HEADER, LINE) + json.dumps(LINE)[:30]
    assert len(load(file_of(tmp_path, content)).workload.arrivals) == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", ["empty"]),
        ("hello\n", ["line 1", "Mooncake", "ContextTokens", "inferway.traffic"]),
        (jsonl(MOONCAKE, {"timestamp": 0}), ["line 2", "input_length"]),
        (AZURE + "2023-11-16 18:15:46,many,44\n", ["line 5", "ContextTokens", "'many'"]),
        (AZURE + "yesterday,1,44\n", ["line 5", "TIMESTAMP", "'yesterday'"]),
        (AZURE + "2023-11-16 18:15:46,-5,44\n", ["line 5", "ContextTokens", "-5"]),
        (AZURE + "2023-11-16 18:15:46,5\n", ["line 5", "GeneratedTokens"]),
        (jsonl({**HEADER, "version": 9}, LINE), ["line 1", "version 9"]),
        (jsonl(HEADER, {**LINE, "at": "noon"}, LINE), ["line 2", "at"]),
        (jsonl(HEADER, LINE, {**LINE, "block_tokens": 32}), ["line 3", "block_tokens"]),
        (jsonl(HEADER, {**LINE, "status": 400}), ["none of its 1"]),
        (b"\x1f\x8bnonsense", []),
    ],
)
def test_a_file_that_can_not_be_read_says_where(
    tmp_path: Path, content: str | bytes, words: list[str]
) -> None:
    path = file_of(tmp_path, content)
    with pytest.raises(TraceError) as caught:
        load(path)
    assert path in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(TraceError, match=r"/nowhere\.jsonl"):
        load("/nowhere.jsonl")


# -- synthetic -----------------------------------------------------------------------------


def test_groups_share_their_system_prompt_and_nothing_else() -> None:
    found = load("shared-prefix", requests=750, rate=9.0).workload
    assert covers(found)
    first = found.arrivals[0]
    alike = [one for one in found.arrivals if one.blocks[0] == first.blocks[0]]
    assert len(alike) == 5 and len({one.blocks for one in alike}) == 5
    assert all(one.blocks[:11] == first.blocks[:11] for one in alike)
    ids = [set(one.blocks[11:]) for one in alike]
    assert all(not a & b for a in ids for b in ids if a is not b)
    groups = {one.blocks[0] for one in found.arrivals}
    assert len(groups) == 150
    everything = {block for one in found.arrivals for block in one.blocks}
    assert len(everything) == 150 * 11 + 750 * (len(first.blocks) - 11)


def test_prompts_come_again_in_the_same_order() -> None:
    arrivals = load("shared-prefix", requests=1000).workload.arrivals
    assert [one.blocks for one in arrivals[750:]] == [one.blocks for one in arrivals[:250]]


def test_the_rate_is_kept_and_the_seed_decides() -> None:
    wanted = SharedPrefix(rate=20.0, requests=4000)
    found = shared_prefix(wanted, seed=1)
    assert 4000 / found.arrivals[-1].at == pytest.approx(20.0, rel=0.05)
    assert found == shared_prefix(wanted, seed=1)
    assert found.arrivals[1] != shared_prefix(wanted, seed=2).arrivals[1]


def test_parameters_that_make_no_sense_are_named() -> None:
    with pytest.raises(ValueError, match="requests"):
        load("sample", requests=0)
    with pytest.raises(ValueError, match="rate"):
        load("shared-prefix", rate=-1.0)
    with pytest.raises(ValueError, match="shared-prefix"):
        load("sample", rate=3.0)
