"""Heads: what passes, what ends here, what is written anew."""

import pytest

from gateway.ours import internal_fields
from gateway.paths import BadTargetError, matchable_path
from gateway.proxy.heads import Origin, RequestHead, own_response, request_head, response_head

HEADERS = [
    (b"host", b"gateway"),
    (b"connection", b"close, X-Hop"),
    (b"x-hop", b"1"),
    (b"content-length", b"999"),
    (b"transfer-encoding", b"chunked"),
    (b"x-prefiller-host-port", b"evil"),
    (b"x_prefiller_host_port", b"evil"),
    (b"content_length", b"1"),
    (b"x-forwarded-for", b"10.0.0.1"),
    (b"accept", b"a"),
    (b"accept", b"b"),
]


@pytest.mark.parametrize(
    ("mode", "lines"),
    [
        ("off", b"x-forwarded-for: 10.0.0.1\r\n"),
        (
            "replace",
            b"x-forwarded-for: 127.0.0.9\r\nx-forwarded-proto: https\r\n"
            b"via: 1.1 inferway\r\nx-forwarded-host: gateway\r\n",
        ),
        (
            "append",
            b"x-forwarded-for: 10.0.0.1, 127.0.0.9\r\nx-forwarded-proto: https\r\n"
            b"via: 1.1 inferway\r\nx-forwarded-host: gateway\r\n",
        ),
    ],
)
def test_a_request_head_has_our_fields_and_no_hop_by_hop_ones(mode: str, lines: bytes) -> None:
    head = RequestHead("POST", b"/v1/completions?x=1", HEADERS)
    origin = Origin(b"127.0.0.9", b"https", mode)
    assert request_head(head, b"pod:8000", b"id-1", 7, origin) == (
        b"POST /v1/completions?x=1 HTTP/1.1\r\nhost: pod:8000\r\nx-request-id: id-1\r\n"
        + b"accept: a\r\naccept: b\r\n"
        + lines
        + b"content-length: 7\r\n\r\n"
    )


def test_fields_only_the_gateway_may_set_are_found_in_either_spelling() -> None:
    assert internal_fields(name for name, _ in HEADERS) == [
        b"x-prefiller-host-port",
        b"x_prefiller_host_port",
    ]


def test_a_response_head_names_the_endpoint_and_keeps_end_to_end_fields() -> None:
    head = response_head(
        200,
        [
            (b"server", b"uvicorn"),
            (b"access-control-allow-origin", b"*"),
            (b"keep-alive", b"5"),
            (b"x-inferway-endpoint", b"lie"),
        ],
        b"content-length: 2\r\n",
        request_id=b"r",
        endpoint=b"pod",
        extra=b"vary: origin\r\n",
        own_cors=True,
        keep_alive=False,
    )
    assert head == (
        b"HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-length: 2\r\nvary: origin\r\n"
        b"x-request-id: r\r\nx-inferway-endpoint: pod\r\nconnection: close\r\n\r\n"
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
        b"/v1/models#x",
        b"/v1/\xff",
    ],
)
def test_ambiguous_targets_are_refused(target: bytes) -> None:
    with pytest.raises(BadTargetError):
        matchable_path(target)
