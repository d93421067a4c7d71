"""One HTTP request in Envoy's external processing protocol: messages in, messages out. Pure.

Request::                                             Response::

    HEAD ──► BODY ──► CHOOSING ──► CHOSEN                 HEAD ──► BODY ──► DONE
      │                  ▲  │
      └── no body comes ─┘  └──► ANSWERED                 (mirrors what comes, in order)

How a body comes decides when an endpoint can be chosen, and in which reply the choice goes out:

| body mode | the head's reply | chosen from | the choice goes out with | body sent back |
|---|---|---|---|---|
| FULL_DUPLEX_STREAMED | waits for the choice | the whole body | the head's reply | yes, in chunks |
| BUFFERED | at once | the whole body | the body's reply | no, unless changed |
| BUFFERED_PARTIAL | at once | what Envoy has room for | the body's reply | no, unless changed |
| STREAMED, ahead | waits for the choice | the whole body | the head's reply | no, unless changed |
| STREAMED | at once | the head | the head's reply | no |
| NONE, or no body | at once | the head | the head's reply | there is none |

*Ahead* means the filter's ``send_body_without_waiting_for_header_response``. In FULL_DUPLEX mode
whatever is not sent back is lost, replies keep the order head, chunks, trailers, and trailers may
be what ends a body; in every other mode each message gets exactly one reply.
"""

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Final

from gateway.apis.call import ApiError
from gateway.extproc.context import ProcessorContext
from gateway.extproc.exchange import Answer, Exchange, Pick
from gateway.extproc.reading import Asked
from gateway.extproc.wire import (
    NO_CHANGE,
    BodyMode,
    Change,
    Modes,
    RequestBody,
    RequestHeaders,
    RequestTrailers,
    ResponseBody,
    ResponseHeaders,
    ResponseTrailers,
    Side,
    WireError,
    body_reply,
    chunks,
    decode,
    headers_reply,
    immediate,
    trailers_reply,
)

_OLDER_ENVOYS: Final = Modes(BodyMode.FULL_DUPLEX, BodyMode.FULL_DUPLEX, ahead=False)
"""What is assumed of one that does not say how it is configured: what the protocol asks for."""

_AT_ONCE: Final = frozenset({BodyMode.BUFFERED, BodyMode.BUFFERED_PARTIAL})


_NO_FIELDS: Final[Mapping[bytes, bytes]] = {}
_NO_HEAD: Final = RequestHeaders({}, ends=False, subset=None)


class Phase(Enum):
    """Where the request is."""

    HEAD = "head"
    BODY = "body"
    CHOOSING = "choosing"
    CHOSEN = "chosen"
    ANSWERED = "answered"


class Session:
    """``send`` is given each reply, ``finish`` is called when there will be no more.

    ``call``: fields of the gRPC call.
    """

    def __init__(
        self,
        context: ProcessorContext,
        send: Callable[[bytes], None],
        finish: Callable[[], None],
        call: Mapping[bytes, bytes] = _NO_FIELDS,
    ) -> None:
        self._context = context
        self._send = send
        self._finish = finish
        self._call = call
        self._phase = Phase.HEAD
        self._modes: Modes | None = None
        self._exchange: Exchange  # from the first message on, as the modes are
        self._head = _NO_HEAD
        self._pieces: list[bytes] = []
        self._held = 0
        self._ends = False  # the last piece said so
        self._trailers = False  # trailers came while an endpoint was being chosen
        self._learns = False

    def receive(self, message: bytes) -> None:
        """A processing request came. `WireError` for one that is none, or out of order."""
        said, modes = decode(message)
        if self._modes is None:
            self._modes = modes or _OLDER_ENVOYS
            self._exchange = Exchange(self._context, self._call)
        kind = type(said)
        if kind is ResponseBody:
            assert isinstance(said, ResponseBody)
            self._response_body(said, self._modes)
        elif self._phase is Phase.ANSWERED:
            return  # what was on its way when we answered
        elif isinstance(said, RequestBody):
            self._request_body(said, self._modes)
        elif isinstance(said, RequestHeaders):
            self._request_head(said, self._modes)
        elif isinstance(said, ResponseHeaders):
            self._response_head(said, self._modes)
        elif isinstance(said, RequestTrailers):
            self._request_trailers()
        else:
            assert isinstance(said, ResponseTrailers)
            if self._modes.response is BodyMode.FULL_DUPLEX:
                rest = self._exchange.renamed_back(b"", ends=True)
                for chunk in chunks(Side.RESPONSE, rest, ends=False):
                    self._send(chunk)
            self._exchange.ended()
            self._send(trailers_reply(Side.RESPONSE))

    def over(self) -> None:
        """The stream ended: whatever is still reserved is given back."""
        self._let_go()
        if self._modes is not None:
            self._exchange.over()

    # --- the request -------------------------------------------------------------------------

    def _request_head(self, said: RequestHeaders, modes: Modes) -> None:
        if self._phase is not Phase.HEAD:
            raise WireError("a second request on one stream")
        self._head = said
        mode = modes.request
        if said.ends or mode is BodyMode.NONE or (mode is BodyMode.STREAMED and not modes.ahead):
            self._choose(b"", modes, whole=said.ends)
            return
        self._phase = Phase.BODY
        if mode in _AT_ONCE:
            self._send(headers_reply(Side.REQUEST))

    def _request_body(self, said: RequestBody, modes: Modes) -> None:
        if self._phase is Phase.CHOSEN:
            # Chosen by the head; or, in FULL_DUPLEX mode, a last piece that came already: Envoys
            # from 1.35 on may repeat it (envoyproxy/envoy#46237), and no reply fits.
            if modes.request is not BodyMode.FULL_DUPLEX:
                self._send(body_reply(Side.REQUEST))
            return
        if self._phase is Phase.HEAD:
            self._phase = Phase.BODY  # the filter sends no heads
        if self._phase is not Phase.BODY:
            raise WireError("a body out of order")
        self._pieces.append(said.body)
        self._hold(len(said.body))
        self._ends = said.ends
        settings = self._context.settings
        if self._held > settings.max_body_bytes:
            limit = settings.max_body_bytes
            self._exchange.refuse(
                ApiError(413, "max_body_bytes", f"The body is larger than {limit} bytes."),
                self._chosen,
            )
        elif self._context.held_bytes > settings.max_held_bytes:
            self._exchange.refuse(
                ApiError(503, "max_held_bytes", "Too much is waiting.", retry_after=1),
                self._chosen,
            )
        elif said.ends or modes.request in _AT_ONCE:
            whole = said.ends or modes.request is BodyMode.BUFFERED
            self._choose(self._joined(), modes, whole=whole)

    def _request_trailers(self) -> None:
        if self._phase is Phase.CHOSEN:
            self._send(trailers_reply(Side.REQUEST))
            return
        self._trailers = True
        if self._phase is Phase.BODY:
            assert self._modes is not None
            self._choose(self._joined(), self._modes, whole=True)

    def _hold(self, size: int) -> None:
        self._held += size
        self._context.held_bytes += size

    def _let_go(self) -> None:
        self._context.held_bytes -= self._held
        self._held = 0

    def _joined(self) -> bytes:
        return self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)

    def _choose(self, body: bytes, modes: Modes, *, whole: bool) -> None:
        self._phase = Phase.CHOOSING
        mode = modes.response
        # In FULL_DUPLEX mode bodies can't be declined, so what comes anyway is learned from.
        self._learns = mode is BodyMode.FULL_DUPLEX or (
            mode is not BodyMode.NONE and self._context.dice.random() < self._context.settings.learn
        )
        streamed = self._learns and mode in {BodyMode.FULL_DUPLEX, BodyMode.STREAMED}
        self._exchange.choose(
            Asked(self._head.fields, body, whole, self._head.subset, self._learns, streamed),
            self._chosen,
        )

    def _chosen(self, said: Pick | Answer) -> None:
        if isinstance(said, Answer):
            self._phase = Phase.ANSWERED
            self._pieces.clear()
            self._let_go()
            self._send(immediate(said.status, said.fields, said.body, said.reason))
            self._finish()
            return
        self._phase = Phase.CHOSEN
        assert self._modes is not None
        mode = self._modes.request
        if not self._pieces:
            self._send(headers_reply(Side.REQUEST, said.change))
        elif mode is BodyMode.FULL_DUPLEX:
            self._send_back(said)
        elif mode in _AT_ONCE:
            change = said.change
            if said.body is not None:  # Envoy refuses a body of another length than it was told
                change = _with_length(change, said.body)
            self._send(body_reply(Side.REQUEST, change, said.body))
        else:
            self._send(headers_reply(Side.REQUEST, said.change))
            bodies = [said.body, *(b"" for _ in self._pieces[1:])]
            for body in bodies:
                self._send(body_reply(Side.REQUEST, body=None if said.body is None else body))
        if self._trailers:
            self._send(trailers_reply(Side.REQUEST))
        self._pieces.clear()
        self._let_go()

    def _send_back(self, pick: Pick) -> None:
        """The head's reply, then the body, changed or not, in chunks of our own size."""
        body = self._joined() if pick.body is None else pick.body
        change = _with_length(pick.change, body) if self._ends else pick.change
        self._send(headers_reply(Side.REQUEST, change))
        for chunk in chunks(Side.REQUEST, body, ends=self._ends):
            self._send(chunk)

    # --- the response --------------------------------------------------------------------------

    def _response_head(self, said: ResponseHeaders, modes: Modes) -> None:
        change: Change = self._exchange.began(said.fields, said.served)
        skips = not self._learns and modes.response in {BodyMode.STREAMED, *_AT_ONCE}
        if skips and not said.ends:
            change = change._replace(skip_response_body=True)
        if self._exchange.renames and modes.response is BodyMode.FULL_DUPLEX and not said.ends:
            change = change._replace(remove=(*change.remove, "content-length"))
        self._send(headers_reply(Side.RESPONSE, NO_CHANGE if change == NO_CHANGE else change))
        if said.ends:
            self._exchange.ended()

    def _response_body(self, said: ResponseBody, modes: Modes) -> None:
        self._exchange.data(said.body)
        if modes.response is BodyMode.FULL_DUPLEX:
            body = self._exchange.renamed_back(said.body, ends=said.ends)
            for chunk in chunks(Side.RESPONSE, body, ends=said.ends):
                self._send(chunk)
        else:
            self._send(body_reply(Side.RESPONSE))
        if said.ends:
            self._exchange.ended()


def _with_length(change: Change, body: bytes) -> Change:
    """The change, and the length that the body will have."""
    return change._replace(set=(*change.set, ("content-length", b"%d" % len(body))))
