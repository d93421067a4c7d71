"""Body fields that only the gateway may set: found wherever and however a client writes them."""

import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.apis.call import ApiError
from gateway.apis.catalogue import (
    CHAT,
    COMPLETIONS,
    COUNT_TOKENS,
    EMBEDDINGS,
    MESSAGES,
    PASSTHROUGH,
    RESPONSES,
    TOKENIZE,
    Operation,
)
from gateway.apis.fields import INTERNAL_FIELDS
from gateway.apis.splice import MOST_FIELDS, without_fields

HI = [{"role": "user", "content": "hi"}]
BODIES: list[tuple[Operation, dict[str, Any]]] = [
    (CHAT, {"messages": HI}),
    (COMPLETIONS, {"prompt": "hi"}),
    (RESPONSES, {"input": "hi"}),
    (MESSAGES, {"messages": HI}),
    (EMBEDDINGS, {"input": "hi"}),
    (COUNT_TOKENS, {"messages": HI}),
    (TOKENIZE, {"prompt": "hi"}),
    (PASSTHROUGH, {"x": 1}),
]


def completion(fields: bytes) -> bytes:
    return b'{"model":"m",%b,"prompt":"hi"}' % fields


@pytest.mark.parametrize(("operation", "body"), BODIES)
@pytest.mark.parametrize("name", INTERNAL_FIELDS)
def test_every_operation_names_them(operation: Operation, body: dict[str, Any], name: str) -> None:
    plain = json.dumps({"model": "m"} | body).encode()
    assert operation.read(plain).internal_fields == ()
    given = json.dumps({name: {"x": None}, "model": "m"} | body).encode()
    call = operation.read(given)
    assert call.internal_fields == (name,)
    assert operation.read(without_fields(given, call.internal_fields)).internal_fields == ()


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        (b'"kv_transfer_params":{}', ("kv_transfer_params",)),
        (b'"kv_transfer_params":false', ("kv_transfer_params",)),
        (b'"kv_transfer_params": null ', ()),
        (b'"kv\\u005ftransfer_params":{}', ("kv_transfer_params",)),
        (b'"\\u006b\\u0076_transfer_params" : 1', ("kv_transfer_params",)),
        (b'"bootstrap_port":0,"bootstrap_host":""', ("bootstrap_port", "bootstrap_host")),
        # Which of two counts differs from parser to parser.
        (b'"bootstrap_host":"h","bootstrap_host":null', ("bootstrap_host",)),
        (b'"bootstrap_host":null,"bootstrap_host":"h"', ("bootstrap_host",)),
        (b'"bootstrap_host":"h","bootstrap_host":"i"', ("bootstrap_host",)),
        (b'"x":{"bootstrap_host":"h"}', ()),
        (b'"x":"\\"bootstrap_host\\":1"', ()),
        (b'"Bootstrap_Host":"h"', ()),
    ],
)
def test_spellings(fields: bytes, names: tuple[str, ...]) -> None:
    assert COMPLETIONS.read(completion(fields)).internal_fields == names
    assert PASSTHROUGH.read(b" " * 200 + completion(fields)).internal_fields == names


def test_they_are_looked_for_only_among_so_many_fields() -> None:
    others = b",".join(b'"x%d":1' % index for index in range(MOST_FIELDS))
    assert COMPLETIONS.read(completion(others)).internal_fields == ()
    with pytest.raises(ApiError, match="more than 1000") as caught:
        COMPLETIONS.read(completion(others + b',"bootstrap_room":1'))
    assert caught.value.status == 400


@pytest.mark.parametrize("name", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xff\\u0061"])
def test_beside_a_name_that_is_no_text_they_are_refused(name: bytes) -> None:
    with pytest.raises(ApiError, match=r"UTF-8|is no text") as caught:
        COMPLETIONS.read(completion(b'"%b":1,"bootstrap_room":1' % name))
    assert caught.value.status == 400


@given(st.binary(), st.binary())
def test_any_body_with_one_is_read_or_refused(before: bytes, after: bytes) -> None:
    """Whatever is read can also be spliced."""
    for body in (
        completion(b'"%b":1,"bootstrap_room":1' % before),
        completion(b'"bootstrap_room":%b,"x":%b' % (before, after)),
        completion(b'"x":"%b","bootstrap_room":1' % before),
    ):
        try:
            call = COMPLETIONS.read(body)
        except ApiError as error:
            assert error.status == 400
        else:
            left = without_fields(body, call.internal_fields)
            assert COMPLETIONS.read(left).internal_fields == ()


def test_deep_nesting_is_read_or_refused_at_every_depth() -> None:
    """Decoding and splicing reach the interpreter's limit at different depths."""
    limit = sys.getrecursionlimit()
    refused = []
    for depth in range(limit - 200, limit + 10):
        body = completion(b'"x":%b%b,"bootstrap_room":1' % (b"[" * depth, b"]" * depth))
        try:
            assert without_fields(body, COMPLETIONS.read(body).internal_fields)
        except ApiError as error:
            refused.append(error.status)
    assert set(refused) == {400}


@pytest.mark.parametrize(
    "encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"]
)
@pytest.mark.parametrize("space", ["", " \n", " " * 300])
def test_json_in_another_encoding_is_refused(encoding: str, space: str) -> None:
    body = (space + '{"kv_transfer_params": {}}').encode(encoding)
    with pytest.raises(ApiError) as caught:
        PASSTHROUGH.read(body)
    assert (caught.value.status, caught.value.reason) == (400, "invalid_json")


@pytest.mark.parametrize(
    "body",
    [
        b"\x00\x00\x00\x18ftypmp42" + bytes(100),
        b"\x00\x00\x00\x20ftypisom" + bytes(100),
        b"RIFF\x24\x08\x00\x00WAVEfmt ",
        b"\xff\xfb\x90\x00" + bytes(100),
        b"\x00",
        b"[1, 2]",
        bytes(100),
    ],
)
def test_what_is_no_json_passes(body: bytes) -> None:
    assert PASSTHROUGH.read(body).model is None
