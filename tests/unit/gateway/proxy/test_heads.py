"""Heads: what passes, what ends here, what is written anew."""

import pytest

from gateway.proxy.heads import (
    BadTargetError,
    RequestHead,
    matchable_path,
    own_response,
    request_head,
    response_head,
)


def test_a_request_head_has_our_host_id_and_length_and_no_hop_by_hop_fields() -> None:
    head = RequestHead(
        method="POST",
        target=b"/v1/completions?x=1",
        headers=[
            (b"Host", b"gateway"),
            (b"Connection", b"close, X-Hop"),
            (b"x-hop", b"1"),
            (b"Content-Length", b"999"),
            (b"Transfer-Encoding", b"chunked"),
            (b"X-Prefiller-Host-Port", b"evil"),
            (b"Accept", b"a"),
            (b"Accept", b"b"),
        ],
    )
    assert request_head(head, b"pod:8000", b"id-1", 7) == (
        b"POST /v1/completions?x=1 HTTP/1.1\r\nhost: pod:8000\r\nx-request-id: id-1\r\n"
        b"Accept: a\r\nAccept: b\r\ncontent-length: 7\r\n\r\n"
    )


def test_a_response_head_names_the_endpoint_and_keeps_end_to_end_fields() -> None:
    head = response_head(
        200,
        [(b"server", b"uvicorn"), (b"Keep-Alive", b"5"), (b"x-inferway-endpoint", b"lie")],
        b"content-length: 2\r\n",
        request_id=b"r",
        endpoint=b"pod",
        keep_alive=False,
    )
    assert head == (
        b"HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-length: 2\r\nx-request-id: r\r\n"
        b"x-inferway-endpoint: pod\r\nconnection: close\r\n\r\n"
    )


def test_an_own_response_says_when_to_come_again() -> None:
    assert own_response(503, b"{}", keep_alive=True, retry_after=2) == (
        b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n"
        b"content-length: 2\r\nretry-after: 2\r\n\r\n{}"
    )


@pytest.mark.parametrize(
    ("target", "path"),
    [(b"/v1/models?x=/../", "/v1/models"), (b"/v1/models/org%2Fname", "/v1/models/org/name")],
)
def test_paths_are_decoded_before_they_are_matched(target: bytes, path: str) -> None:
    assert matchable_path(target) == path


@pytest.mark.parametrize(
    "target",
    [
        b"v1/models",
        b"http://x/v1/models",
        b"*",
        b"/v1/../metrics",
        b"/v1/%2e%2e/metrics",
        b"/v1//models",
        b"/v1/./models",
        b"/v1/.hidden",
        b"/v1\\models",
        b"/v1/%00",
        b"/v1/\xff",
    ],
)
def test_ambiguous_targets_are_refused(target: bytes) -> None:
    with pytest.raises(BadTargetError):
        matchable_path(target)
