"""A request to a sidecar: to the decode engine beside it, by way of a prefill server if named.

Paths with a prompt are read, since their bodies change; anything else goes to the engine as it is.
``GET /health`` is answered here: the pod's probe asks whether the sidecar lives. Errors of its own
have the shape that llm-d's sidecar gives them.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from gateway.apis.call import Api, ApiError, Call
from gateway.apis.catalogue import CHAT, COMPLETIONS, MESSAGES, RESPONSES, Operation
from gateway.apis.passthrough import read_passthrough
from gateway.apis.splice import without_fields
from gateway.choosing import routing_request
from gateway.proxy.exchange import Exchange
from gateway.proxy.pairing import PREFILLER

_encode: Final = msgspec.json.Encoder().encode
_TYPES: Final[Mapping[int, str]] = {
    400: "BadRequestError",
    403: "Forbidden",
    502: "BadGateway",
    503: "ServiceUnavailable",
    504: "GatewayTimeout",
}


class SidecarDialect:
    """``{"object": "error", "message", "type", "param", "code"}``."""

    def error_body(self, error: ApiError) -> bytes:
        """The JSON body of an error response."""
        return _encode(
            {
                "object": "error",
                "message": error.message,
                "type": _TYPES.get(error.status, "InternalServerError"),
                "param": error.param,
                "code": error.status,
            }
        )

    def stream_error(self, error: ApiError) -> bytes:
        """The server-sent events that end an already started stream."""
        return b'data: {"error":' + self.error_body(error) + b"}\n\ndata: [DONE]\n\n"


_DIALECT: Final = SidecarDialect()
_INTERCEPTED: Final[Mapping[bytes, Api]] = {
    b"/v1/chat/completions": Operation("chat", CHAT.reader, _DIALECT),
    b"/v1/completions": Operation("completions", COMPLETIONS.reader, _DIALECT),
    b"/v1/responses": Operation("responses", RESPONSES.reader, _DIALECT),
    b"/v1/messages": Operation("messages", MESSAGES.reader, _DIALECT),
}
_OTHER: Final[Api] = Operation("passthrough", read_passthrough, _DIALECT)


class SidecarExchange(Exchange):
    """One request of whoever stands before the sidecar."""

    def start(self) -> None:
        """Send it on, in one leg or two."""
        head = self._head
        path = head.target.partition(b"?")[0]
        if head.method == "GET" and path == b"/health":
            self._record.api = "health"
            self._answer(200, b"{}")
            return
        api = _INTERCEPTED.get(path) if head.method == "POST" else None
        try:
            if api is None:
                self._pair(_OTHER, Call(model=None), None)
            else:
                self._intercept(api)
        except ApiError as error:
            self._refuse(error)

    def _intercept(self, api: Api) -> None:
        self._api = api
        self._bound_depth()
        call = api.read(self._body)
        if call.internal_fields:
            self._body = without_fields(self._body, call.internal_fields)
        self._pair(api, call, self._head.fields.get(PREFILLER))

    def _pair(self, api: Api, call: Call, named: bytes | None) -> None:
        context, record = self._context, self._record
        pairing = context.pairing
        assert pairing is not None
        self._api = api
        record.api = api.name
        record.model = call.model or ""
        record.streamed = call.streamed
        request = routing_request(call, record.request_id, streamed=call.streamed)
        decision = pairing.decide(request, named, context.now())
        self._deliver(api, pairing.router, decision)

    def undeliverable(self, error: ApiError) -> None:
        """The decode engine did not answer; one that refuses connections is just not there yet."""
        if error.reason == "connect_failed":
            message = "The decode server can't be reached."
            error = ApiError(503, error.reason, message, retry_after=error.retry_after)
        super().undeliverable(error)
