"""A response on its way from an endpoint to the client.

It is *held* until the first byte of its body is there: nothing is committed, another endpoint
may still answer. From then on it is *committed* to what was written.
"""

from mypy_extensions import trait

from gateway.apis.renaming import NameBack
from gateway.apis.usage import is_stream_error
from gateway.meter import ResponseMeter
from gateway.proxy.framing import EventAligner, Framing, choose
from gateway.proxy.heads import Headers, RequestHead, response_head
from gateway.routes.edits import FieldEdits


@trait
class Writer:
    """Where bytes for the client go."""

    def write(self, data: bytes) -> None:
        """Send bytes to the client."""


class Relay:
    """One attempt's response: metered, aligned to whole events, framed for the client."""

    __slots__ = (
        "_aligner",
        "_client",
        "_edits",
        "_extra",
        "_framing",
        "_headers",
        "_own_cors",
        "_renaming",
        "_request",
        "_request_id",
        "committed",
        "endpoint",
        "keep_alive",
        "meter",
        "status",
    )

    def __init__(
        self,
        client: Writer,
        request: RequestHead,
        *,
        request_id: bytes,
        endpoint: bytes,
        extra: bytes,
        own_cors: bool,
        keep_alive: bool,
        edits: FieldEdits | None = None,
    ) -> None:
        self.status = 0
        self.endpoint = endpoint
        self.committed = False
        """Whether a byte of the response was written to the client."""
        self.keep_alive = keep_alive
        """Whether the client's connection may serve another request after this response."""
        self.meter = ResponseMeter()
        self._client = client
        self._request = request
        self._request_id = request_id
        self._extra = extra
        self._own_cors = own_cors
        self._edits = edits
        self._headers: Headers = []
        self._framing = Framing.NONE
        self._aligner: EventAligner | None = None
        self._renaming: NameBack | None = None

    @property
    def is_event_stream(self) -> bool:
        """Whether the response is a stream of server-sent events."""
        return self._aligner is not None

    def rename_back(self, target: str, asked: str) -> None:
        """Call the model ``asked`` where the endpoint calls it ``target``."""
        self._renaming = NameBack(target, asked)

    def head(self, status: int, headers: Headers) -> None:
        """Keep the head until the body begins."""
        self.status = status
        self._headers = headers
        if self._renaming is not None:
            if status >= 300 or self._request.method == "HEAD":
                self._renaming = None
            else:  # the length will be another one
                self._headers = [one for one in headers if one[0] != b"content-length"]
        if status < 300 and _is_event_stream(headers):
            self._aligner = EventAligner()

    def opens_with_failure(self, data: bytes) -> bool:
        """Whether the first piece of a stream says that there will be no answer.

        Some engines answer 200 and then say in the first event that they failed, or end a
        stream that never began.
        """
        return self._aligner is not None and (
            data.startswith(b"data: [DONE]") or is_stream_error(data)
        )

    def data(self, data: bytes, now: float) -> None:
        """Meter and relay a piece of the body."""
        self.meter.add(data, now)
        if self._renaming is not None:
            data = self._renaming.feed(data)
        if self._aligner is not None:
            data = self._aligner.align(data)
        if data:
            self._write(data)

    def _write(self, data: bytes) -> None:
        if self.committed:
            self._client.write(self._framing.frame(data))
        else:
            head = self._commit()
            self._client.write(head + self._framing.frame(data))

    def _commit(self) -> bytes:
        self.committed = True
        if self._edits is not None:
            self._headers = self._edits.applied(self._headers)
        self._framing, line = choose(
            self.status,
            self._headers,
            chunked_ok=self._request.chunked_ok,
            bodiless=self._request.method == "HEAD",
        )
        if self._framing is Framing.CLOSE:
            self.keep_alive = False
        head = response_head(
            self.status,
            self._headers,
            line,
            request_id=self._request_id,
            endpoint=self.endpoint,
            extra=self._extra,
            own_cors=self._own_cors,
            keep_alive=self.keep_alive,
        )
        self._headers = []
        return head

    def end(self) -> None:
        """The body is whole: write what is left of it and its end."""
        rest = b"" if self._aligner is None else self._aligner.rest()
        if self._renaming is not None:
            rest += self._renaming.rest()
        if rest:
            self._write(rest)
        if not self.committed:
            self._client.write(self._commit())
        self._client.write(self._framing.end)

    def break_off(self, event: bytes) -> None:
        """The endpoint failed after the response was committed: end it honestly.

        An event stream ends with ``event``; for any other body, or in the middle of an
        overlong event, the only honest end is closing the connection.
        """
        aligner = self._aligner
        if aligner is None or aligner.torn or self._framing is Framing.LENGTH:
            self.keep_alive = False
        else:
            self._client.write(self._framing.frame(event) + self._framing.end)


def _is_event_stream(headers: Headers) -> bool:
    for name, value in headers:
        if name == b"content-type":
            return value.lstrip().lower().startswith(b"text/event-stream")
    return False
