"""What each connector is told: one test a row of the table in `endpoints.engines.transfer`."""

import json
from typing import Any

import pytest

from endpoints.engines.transfer import DIALECTS, dialect_named, dialect_of
from endpoints.engines.transfer.answer import PrefillAnswer, read_answer
from endpoints.engines.transfer.dialect import Edit, Handover, NoHandoverError, Order, Place
from routing.endpoint import Endpoint

PARAMS = (
    b'{"do_remote_prefill":true, "do_remote_decode":false,"remote_block_ids":[[4,5]],'
    b'"remote_engine_id":"p0","remote_request_id":"r","remote_host":"h","remote_port":1,"tp_size":1}'
)


def handover(**labels: str) -> Handover:
    own = {name.replace("_", "-"): value for name, value in labels.items()}
    return Handover(
        prefill=Place("p", "10.0.0.1", 8000, own),
        decode=Place("d", "10.0.0.2", 8000, own),
        request_id="req-1",
        room=12345,
        facts={"engine_id": "engine-7", "dp_rank": "3"},
    )


def ktp(edit: Edit) -> Any:
    return json.loads(edit.put["kv_transfer_params"])


def is_primed(edit: Edit) -> bool:
    return (
        edit.put["max_tokens"] == b"1"
        and edit.put["stream"] == b"false"
        and edit.given["max_completion_tokens"] == b"1"
        and {"stream_options", "min_tokens"} <= edit.drop
    )


def test_nixl_asks_for_remote_decode_and_hands_the_answer_on_verbatim() -> None:
    nixl = DIALECTS["nixl"]
    first = nixl.prefill(handover(), "chat")
    assert is_primed(first.edit)
    assert ktp(first.edit) == {
        "do_remote_decode": True,
        "do_remote_prefill": False,
        "remote_engine_id": None,
        "remote_block_ids": None,
        "remote_host": None,
        "remote_port": None,
    }
    second = nixl.decode(handover(), PrefillAnswer(params=PARAMS))
    assert second.edit == Edit(put={"kv_transfer_params": PARAMS})
    assert nixl.order is Order.SEQUENTIAL
    assert nixl.lease_seconds(handover().prefill) == 30.0
    assert nixl.lease_seconds(handover(kv_lease="480").prefill) == 480.0


@pytest.mark.parametrize(
    "name",
    ["remote_block_ids", "remote_engine_id", "remote_host", "remote_port", "remote_request_id"],
)
@pytest.mark.parametrize("how", ["absent", "null"])
def test_nixl_hands_nothing_on_that_an_engine_dies_of(name: str, how: str) -> None:
    said = json.loads(PARAMS)
    said[name] = None
    if how == "absent":
        del said[name]
    with pytest.raises(NoHandoverError) as caught:
        DIALECTS["nixl"].decode(handover(), PrefillAnswer(params=json.dumps(said).encode()))
    assert caught.value.reason == "incomplete_params"


def test_older_nixl_knows_no_request_id_and_flat_blocks() -> None:
    params = (
        b'{"do_remote_prefill":true,"remote_block_ids":[1],"remote_engine_id":"e",'
        b'"remote_host":"h","remote_port":5}'
    )
    leg = DIALECTS["nixl"].decode(handover(), PrefillAnswer(params=params))
    assert leg.edit.put["kv_transfer_params"] is params


def test_nixl_without_params_hands_nothing_over() -> None:
    with pytest.raises(NoHandoverError) as caught:
        DIALECTS["nixl"].decode(handover(), PrefillAnswer())
    assert caught.value.reason == "no_params"


@pytest.mark.parametrize("name", ["example", "lmcache"])
def test_connectors_by_content_are_told_nothing(name: str) -> None:
    dialect = DIALECTS[name]
    first = dialect.prefill(handover(), "completions")
    assert is_primed(first.edit)
    assert "kv_transfer_params" not in first.edit.put
    assert dialect.decode(handover(), PrefillAnswer()).edit == Edit()
    assert dialect.lease_seconds(handover().prefill) is None


def test_mooncake_meets_by_transfer_id_at_the_bootstrap_server() -> None:
    mooncake = DIALECTS["mooncake"]
    first, second = mooncake.prefill(handover(), "chat"), mooncake.decode(handover(), None)
    assert is_primed(first.edit)
    assert first.headers == ((b"x-data-parallel-rank", b"3"),)
    given, taken = ktp(first.edit), ktp(second.edit)
    assert given == {
        "do_remote_decode": True,
        "do_remote_prefill": False,
        "transfer_id": taken["transfer_id"],
    }
    assert taken["do_remote_prefill"] is True
    assert taken["do_remote_decode"] is False
    assert taken["remote_bootstrap_addr"] == "http://10.0.0.1:8998"
    assert taken["remote_engine_id"] == "engine-7"
    assert mooncake.order is Order.CONCURRENT
    assert mooncake.facts_url(handover().prefill) == "http://10.0.0.1:8998/query"
    assert mooncake.facts_url(handover(kv_engine_id="e").prefill) is None
    page = b'{"1":{"engine_id":"b"},"0":{"engine_id":"a","worker_addr":{}}}'
    assert mooncake.read_facts(page) == {"engine_id": "a", "dp_rank": "0"}
    for bad in (b"{}", b"[]", b"{", b'{"x":{"engine_id":"a"}}'):
        with pytest.raises(ValueError, match="/query"):
            mooncake.read_facts(bad)


def test_older_mooncake_meets_by_equal_request_ids() -> None:
    older = DIALECTS["mooncake-old"]
    first = older.prefill(handover(), "chat")
    second = older.decode(handover(kv_bootstrap_port="9001"), None)
    assert first.request_id == second.request_id == "req-1"
    assert ktp(first.edit) == {"do_remote_decode": True, "do_remote_prefill": False}
    assert ktp(second.edit) == {
        "do_remote_decode": False,
        "do_remote_prefill": True,
        "bootstrap_server_host": "10.0.0.1",
        "bootstrap_server_port": 9001,
    }


def test_p2pnccl_puts_both_addresses_into_the_id() -> None:
    nccl = DIALECTS["p2pnccl"]
    where = handover(kv_zmq_address="10.0.0.9:21001")
    first, second = nccl.prefill(where, "chat"), nccl.decode(where, PrefillAnswer())
    assert is_primed(first.edit)
    assert second.edit == Edit()
    assert first.request_id == second.request_id
    assert first.request_id is not None
    assert first.request_id.startswith(
        "___prefill_addr_10.0.0.9:21001___decode_addr_10.0.0.9:21001_"
    )
    with pytest.raises(NoHandoverError) as caught:
        nccl.prefill(handover(), "chat")
    assert caught.value.reason == "no_address"


def test_offloading_names_its_own_id_on_both_sides_one_after_the_other() -> None:
    offloading = DIALECTS["offloading"]
    first = offloading.prefill(handover(), "chat")
    second = offloading.decode(handover(), PrefillAnswer())
    key = ktp(first.edit)["remote_decoder"]["kv_request_id"]
    assert ktp(second.edit) == {
        "remote_prefiller": {
            "kv_request_id": key,
            "remote_host": "10.0.0.1",
            "remote_port": 7777,
        }
    }
    assert offloading.order is Order.SEQUENTIAL


def test_sglang_gives_both_the_same_fields_and_cuts_nothing() -> None:
    sglang = DIALECTS["sglang"]
    first, second = sglang.prefill(handover(), "chat"), sglang.decode(handover(), None)
    assert first == second
    assert {name: json.loads(value) for name, value in first.edit.put.items()} == {
        "bootstrap_host": "10.0.0.1",
        "bootstrap_port": 8998,
        "bootstrap_room": 12345,
    }
    assert not first.edit.drop
    assert not first.edit.given
    assert "responses" not in sglang.apis
    assert not sglang.alone


def test_ipv6_hosts_are_bracketed_where_urls_are() -> None:
    place = Place.of(Endpoint("p", "http://[fd00::1]:8000"))
    assert (place.host, place.port) == ("fd00::1", 8000)
    where = Handover(place, place, "r", 1, {"engine_id": "e"})
    assert json.loads(DIALECTS["sglang"].prefill(where, "chat").edit.put["bootstrap_host"]) == (
        "[fd00::1]"
    )
    taken = ktp(DIALECTS["mooncake"].decode(where, None).edit)
    assert taken["remote_bootstrap_addr"] == "http://[fd00::1]:8998"


def test_bad_ports_are_named() -> None:
    with pytest.raises(NoHandoverError, match="kv-bootstrap-port of 'p' is 'x'"):
        DIALECTS["sglang"].prefill(handover(kv_bootstrap_port="x"), "chat")


def test_responses_are_limited_by_their_own_field() -> None:
    edit = DIALECTS["nixl"].prefill(handover(), "responses").edit
    assert edit.put["max_output_tokens"] == b"1"
    assert "max_tokens" not in edit.put


def test_dialects_are_found_by_label_or_engine() -> None:
    plain = Endpoint("p", "http://p:1")
    assert dialect_of(plain, "vllm") is DIALECTS["nixl"]
    assert dialect_of(plain, "sglang") is DIALECTS["sglang"]
    assert dialect_of(plain, "llamacpp") is None
    labelled = Endpoint("p", "http://p:1", labels=(("kv-connector", "MooncakeConnector"),))
    assert dialect_of(labelled, "vllm") is DIALECTS["mooncake"]
    assert dialect_named("nixlv2") is DIALECTS["nixl"]
    assert dialect_named("shared-storage") is DIALECTS["example"]
    with pytest.raises(ValueError, match="did you mean 'mooncake'"):
        dialect_named("mooncak")


# --- answers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            b'{"choices":[{"finish_reason":"length"}],"usage":{"prompt_tokens":7,'
            b'"prompt_tokens_details":{"cached_tokens":3}},"kv_transfer_params":{"a": 1}}',
            PrefillAnswer(b'{"a": 1}', None, 7, 3),
        ),
        (
            b'{"status":"incomplete","usage":{"input_tokens":7,"input_tokens_details":'
            b'{"cached_tokens":3}},"kv_transfer_params":null}',
            PrefillAnswer(None, None, 7, 3),
        ),
        (
            b'{"stop_reason":"max_tokens","usage":{"input_tokens":4,"cache_read_input_tokens":3}}',
            PrefillAnswer(None, None, 7, 3),
        ),
        (b'{"choices":[{"finish_reason":"abort"}]}', PrefillAnswer(failure="abort")),
        (b'{"status":"failed","error":{"code":"x"}}', PrefillAnswer(failure="failed")),
        (b'{"error":{"message":"x"}}', PrefillAnswer(failure="error")),
        (
            b'{"usage":{"prompt_tokens":7,"prompt_tokens_details":null}}',
            PrefillAnswer(None, None, 7, None),
        ),
        (b"{}", PrefillAnswer()),
    ],
)
def test_answers_of_all_apis_are_read(body: bytes, expected: PrefillAnswer) -> None:
    assert read_answer(body) == expected


@pytest.mark.parametrize(
    "body", [b"", b"x", b"[]", b'{"usage":7}', b'{"choices":[{"finish_reason":\xff}]}']
)
def test_what_is_no_answer_is_an_error(body: bytes) -> None:
    with pytest.raises(ValueError, match="can't be read"):
        read_answer(body)
