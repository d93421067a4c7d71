"""Cached tokens become those of the prefill server, and nothing else changes."""

import pytest

from gateway.proxy.restoring import UsageRestorer, restored, with_length

RIGHT = b'{"usage":{"prompt_tokens":9,"prompt_tokens_details":{"cached_tokens":4}}}'


@pytest.mark.parametrize(
    "data",
    [
        RIGHT,
        b"",
        b'{"usage":{"prompt_tokens":9}}',
        b'{"text":"\\"cached_tokens\\":1"}',
        b'data: {"choices":[]}\n\n',
    ],
)
def test_what_is_right_is_the_very_same_object(data: bytes) -> None:
    assert restored(data, 4) is data


@pytest.mark.parametrize(
    "told", [b'"cached_tokens":12', b'"cached_tokens" : 0', b'"cached_tokens":null']
)
def test_what_is_wrong_is_set(told: bytes) -> None:
    said = RIGHT.replace(b'"cached_tokens":4', told)
    assert restored(said, 4).replace(b" ", b"") == RIGHT


def test_missing_details_are_given() -> None:
    said = b'{"usage":{"prompt_tokens":9,"prompt_tokens_details":null}}'
    assert restored(said, 4) == RIGHT


@pytest.mark.parametrize("size", [1, 2, 7, 50, 1000])
def test_events_are_restored_however_they_are_cut(size: int) -> None:
    event = b"data: " + RIGHT.replace(b":4", b":9") + b"\n\n"
    page = b"data: {}\n\n" + event + b"data: [DONE]\n\n"
    restorer = UsageRestorer(4)
    restorer.streams = True
    out = b"".join(restorer.feed(page[at : at + size]) for at in range(0, len(page), size))
    out += restorer.rest()
    assert out == page.replace(b'"cached_tokens":9', b'"cached_tokens":4')


def test_other_bodies_are_held_to_their_end() -> None:
    restorer = UsageRestorer(4)
    said = RIGHT.replace(b":4", b":400")
    assert restorer.feed(said[:20]) + restorer.feed(said[20:]) == b""
    assert restorer.rest() == RIGHT
    headers = [(b"content-length", b"1"), (b"x", b"y")]
    assert with_length(headers, 7) == [(b"content-length", b"7"), (b"x", b"y")]
