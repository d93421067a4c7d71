"""CORS: what a browser is told, for every kind of origin and request."""

import pytest

from gateway.proxy.cors import Cors
from gateway.proxy.heads import RequestHead
from gateway.settings import CorsSettings

PAGE = "https://chat.example.com"
OFF = Cors()
ALL = Cors(CorsSettings(origins=("*",)))
ONE = Cors(CorsSettings(origins=(PAGE, "http://localhost:3000"), credentials=True))


def asked(**fields: str) -> RequestHead:
    """A request with these fields; underscores are hyphens."""
    headers = [(name.replace("_", "-").encode(), text.encode()) for name, text in fields.items()]
    return RequestHead("OPTIONS", b"/v1/models", [(b"host", b"gateway"), *headers])


def preflight(origin: str, headers: str = "content-type", method: str = "POST") -> RequestHead:
    return asked(
        origin=origin,
        access_control_request_method=method,
        access_control_request_headers=headers,
    )


def lines(fields: bytes) -> dict[str, str]:
    """The fields by name; each line must be whole and each name come once."""
    assert fields == b"" or fields.endswith(b"\r\n")
    pairs = [line.partition(": ") for line in fields.decode().split("\r\n")[:-1]]
    found = {name: text for name, _, text in pairs}
    assert len(found) == len(pairs)
    return found


def test_off_says_nothing_at_all() -> None:
    assert not OFF.on
    assert OFF.response_fields(asked(origin=PAGE)) == OFF.preflight(preflight(PAGE)) == b""


def test_all_origins_need_no_vary() -> None:
    assert ALL.on
    assert lines(ALL.response_fields(asked(origin=PAGE))) == {
        "access-control-allow-origin": "*",
        "access-control-expose-headers": "x-request-id, x-inferway-endpoint",
    }
    assert ALL.response_fields(asked()) == b""


def test_a_named_origin_is_repeated_and_may_send_credentials() -> None:
    assert lines(ONE.response_fields(asked(origin=PAGE))) == {
        "access-control-allow-origin": PAGE,
        "access-control-allow-credentials": "true",
        "access-control-expose-headers": "x-request-id, x-inferway-endpoint",
        "vary": "origin",
    }


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        PAGE + ".evil.example",
        PAGE.upper(),
        PAGE + ":8443",
        f"{PAGE}, {PAGE}",
        "*",
        "",
    ],
)
def test_any_other_origin_gets_nothing_but_vary(origin: str) -> None:
    assert lines(ONE.response_fields(asked(origin=origin))) == {"vary": "origin"}
    assert list(lines(ONE.preflight(preflight(origin)))) == ["vary"]


def test_an_answer_without_an_origin_still_varies() -> None:
    assert lines(ONE.response_fields(asked())) == {"vary": "origin"}


def test_a_preflight_says_what_may_be_sent() -> None:
    names = "Authorization, content-type,X-Stainless-OS , anthropic-beta"
    assert lines(ONE.preflight(preflight(PAGE, names))) == {
        "access-control-allow-origin": PAGE,
        "access-control-allow-credentials": "true",
        "access-control-allow-methods": "GET, POST, OPTIONS",
        "access-control-allow-headers": ", ".join(
            ("Authorization", "content-type", "X-Stainless-OS", "anthropic-beta")
        ),
        "access-control-max-age": "600",
        "vary": "origin, access-control-request-method, access-control-request-headers",
    }


def test_fields_that_are_not_allowed_are_left_out() -> None:
    found = lines(ALL.preflight(preflight(PAGE, "x-secret, x-api-key, , x-stainless-\x00, *")))
    assert found["access-control-allow-headers"] == "x-api-key"
    assert "access-control-allow-headers" not in lines(ALL.preflight(preflight(PAGE, "x-secret")))


def test_options_without_a_requested_method_is_no_preflight() -> None:
    assert ONE.preflight(asked(origin=PAGE)) == ONE.response_fields(asked(origin=PAGE))


def test_empty_lists_leave_their_lines_out() -> None:
    cors = Cors(CorsSettings(origins=("*",), methods=(), headers=(), expose=(), max_age=0))
    assert lines(cors.response_fields(asked(origin=PAGE))) == {"access-control-allow-origin": "*"}
    assert lines(cors.preflight(preflight(PAGE))) == {
        "access-control-allow-origin": "*",
        "access-control-max-age": "0",
        "vary": "origin, access-control-request-method, access-control-request-headers",
    }
