"""What each operation reads of a body that it can serve."""

import json
from typing import Any

import pytest

from gateway.apis.call import Call
from gateway.apis.catalogue import (
    CHAT,
    COMPLETIONS,
    COUNT_TOKENS,
    DETOKENIZE,
    EMBEDDINGS,
    MESSAGES,
    PASSTHROUGH,
    RERANK,
    RESPONSES,
    SCORE,
    TOKENIZE,
    Operation,
)
from gateway.apis.prompt import MEDIA_TOKENS
from routing.prefix.chain import text_chain, token_chain

HI = [{"role": "user", "content": "hi"}]
PNG = "data:image/png;base64," + "iVBORw0KGgo" * 200_000


def read(operation: Operation, **fields: Any) -> Call:
    return operation.read(json.dumps({"model": "m"} | fields).encode())


@pytest.mark.parametrize(
    ("operation", "fields", "limit"),
    [
        (CHAT, {"messages": HI, "max_tokens": 7}, 7),
        (CHAT, {"messages": HI, "max_tokens": 7, "max_completion_tokens": 9}, 9),
        (CHAT, {"messages": HI, "max_tokens": 7, "max_completion_tokens": None}, 7),
        (CHAT, {"messages": HI, "max_tokens": 7.0}, 7),
        (CHAT, {"messages": HI, "max_tokens": 0}, 0),
        (CHAT, {"messages": HI, "max_tokens": -1}, None),
        (CHAT, {"messages": HI}, None),
        (COMPLETIONS, {"prompt": "hi", "max_tokens": 5}, 5),
        (RESPONSES, {"input": "hi", "max_output_tokens": 5}, 5),
        (MESSAGES, {"messages": HI, "max_tokens": 5}, 5),
    ],
)
def test_output_limit(operation: Operation, fields: dict[str, Any], limit: int | None) -> None:
    assert read(operation, **fields).max_output_tokens == limit


@pytest.mark.parametrize(
    ("operation", "fields"),
    [
        (CHAT, {"messages": HI}),
        (COMPLETIONS, {"prompt": "hi"}),
        (RESPONSES, {"input": "hi"}),
        (MESSAGES, {"messages": HI}),
        (EMBEDDINGS, {"input": "hi"}),
        (PASSTHROUGH, {}),
    ],
)
def test_common_fields(operation: Operation, fields: dict[str, Any]) -> None:
    call = read(operation, stream=True, priority=3, **fields)
    assert (call.model, call.streamed, call.priority) == ("m", True, 3)
    call = read(operation, stream=None, priority=None, cache_salt=None, user=None, **fields)
    assert (call.model, call.streamed, call.priority) == ("m", False, 0)
    assert not read(operation, stream=False, **fields).streamed


@pytest.mark.parametrize(
    "operation", [EMBEDDINGS, RERANK, SCORE, TOKENIZE, DETOKENIZE, COUNT_TOKENS]
)
def test_operations_without_a_kv_cache_count_by_size(operation: Operation) -> None:
    body = json.dumps({"model": "m", "input": "x" * 4000, "tokens": [1, 2]}).encode()
    call = operation.read(body)
    assert call == Call(model="m", prompt_tokens=len(body) / 4)


@pytest.mark.parametrize("text", ["é" * 300, 'a\n"b"\\' * 100])
def test_text_completion_is_hashed_as_it_is_written(text: str) -> None:
    body = json.dumps({"model": "m", "prompt": text}, ensure_ascii=False).encode()
    written = json.dumps(text, ensure_ascii=False).encode()[1:-1]
    call = COMPLETIONS.read(body)
    assert call.chains == (text_chain(b"m", written),)
    assert (call.prompt_tokens, call.exact_tokens) == (len(written) / 4, False)


def test_token_id_completion_is_exact() -> None:
    ids = list(range(130))
    call = read(COMPLETIONS, prompt=ids)
    assert call.chains == (token_chain(b"m", ids),)
    assert (call.prompt_tokens, call.exact_tokens) == (130, True)


def test_batches_have_a_chain_a_prompt() -> None:
    ids, other = [1] * 64, [2] * 64
    call = read(COMPLETIONS, prompt=[ids, other])
    assert call.chains == (token_chain(b"m", ids), token_chain(b"m", other))
    assert (call.prompt_tokens, call.exact_tokens) == (128, True)
    call = read(COMPLETIONS, prompt=["a" * 256, ids])
    assert call.chains == (text_chain(b"m", b"a" * 256), token_chain(b"m", ids))
    assert (call.prompt_tokens, call.exact_tokens) == (128, False)


def test_text_between_token_ids_is_one_prompt() -> None:
    mixed = read(COMPLETIONS, prompt=["x" * 300, 5])
    assert [len(chain) for chain in mixed.chains] == [1]
    assert not mixed.exact_tokens
    assert mixed.chains != read(COMPLETIONS, prompt="x" * 300).chains


def test_empty_batch_has_no_prompt() -> None:
    call = read(COMPLETIONS, prompt=[])
    assert (call.chains, call.prompt_tokens, call.exact_tokens) == ((), 0, False)


def test_prompt_given_as_embeddings() -> None:
    one, same, other = (
        read(COMPLETIONS, prompt_embeds=embeds) for embeds in ("AAAA", "AAAA", "AAAB")
    )
    assert one == same
    assert one.chains != other.chains
    assert one.prompt_tokens == pytest.approx(MEDIA_TOKENS, abs=1)


def image(url: str) -> list[dict[str, Any]]:
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "what?"}]
    return [{"role": "user", "content": content}]


def test_an_image_counts_as_one_whatever_its_size() -> None:
    call = read(CHAT, messages=image(PNG))
    assert call.prompt_tokens == pytest.approx(MEDIA_TOKENS, abs=10)
    assert len(call.chains[0]) == MEDIA_TOKENS // 64
    assert call == read(CHAT, messages=image(PNG))
    other = read(CHAT, messages=image(PNG[:-1] + "A"))
    assert not set(other.chains[0]) & set(call.chains[0])


def test_anthropic_and_responses_images_count_as_one() -> None:
    source = {"type": "base64", "media_type": "image/png", "data": PNG}
    block = {"type": "image", "source": source}
    marked = block | {"cache_control": {"type": "ephemeral"}}
    calls = [
        read(MESSAGES, messages=[{"role": "user", "content": [one]}]) for one in (block, marked)
    ]
    assert calls[0] == calls[1]
    part = {"type": "input_image", "image_url": PNG}
    calls.append(read(RESPONSES, input=[{"role": "user", "content": [part]}]))
    outputs = {"type": "function_call_output", "call_id": "c", "output": [part]}
    calls.append(read(RESPONSES, input=[outputs]))
    screen = {"type": "computer_screenshot", "image_url": PNG}
    calls.append(read(RESPONSES, input=[outputs | {"output": screen}]))
    assert [call.prompt_tokens for call in calls] == pytest.approx([MEDIA_TOKENS] * 5, abs=20)


def form(*parts: tuple[str, bytes]) -> bytes:
    """Build a form from each part's disposition parameters and content."""
    body = b"".join(
        b"--XyZ\r\nContent-Disposition: form-data; "
        + parameters.encode()
        + b"\r\n\r\n"
        + content
        + b"\r\n"
        for parameters, content in parts
    )
    return body + b"--XyZ--\r\n"


@pytest.mark.parametrize(
    ("body", "model", "streamed"),
    [
        (b"", None, False),
        (b"\x00\x01 anything", None, False),
        (b' {"model": "w", "stream": true}', "w", True),
        (b'{"input": 1}', None, False),
        (form(('name="model"', b"w")), "w", False),
        (form(('name="file"; filename="a"', b"\r\n\r\nabc"), ("name=model", b"w")), "w", False),
        (form(('name="model"', b"w"), ('name="stream"', b"true")), "w", True),
        (form(('name="file"; filename="x; name=model"', b"w")), None, False),
        (form(('name="model"', b"")), None, False),
        (form(('name="prompt"', b'name="model"\r\n\r\nv')), None, False),
        (b'--XyZ\r\nContent-Disposition: form-data; name="model"\r\n\r\nw', None, False),
        (b"--\r\n", None, False),
    ],
)
def test_passthrough_finds_the_model(body: bytes, model: str | None, streamed: bool) -> None:
    call = PASSTHROUGH.read(body)
    assert (call.model, call.streamed, call.chains) == (model, streamed, ())


def test_a_file_is_not_counted_by_its_size() -> None:
    upload = form(('name="file"; filename="a.wav"', b"\r\n-" * 1_000_000), ('name="model"', b"w"))
    call = PASSTHROUGH.read(upload)
    assert (call.model, call.prompt_tokens) == ("w", MEDIA_TOKENS)
