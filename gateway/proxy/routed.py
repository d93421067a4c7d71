"""Requests that a route table governs: matched first, then served by what is behind the match.

Phases::

    MATCHING --> pool with our brain --> an `Exchange` like any other
        |------> Service ------------> plain delivery
        |------> pool with a picker -> PICKING --> plain delivery
        +------> answered at once: no match (404), redirects, broken backends (500)
"""

from typing import Final, TypeAlias

from gateway.apis.call import ApiError
from gateway.apis.catalogue import PASSTHROUGH, Forward, Route
from gateway.ours import for_pickers
from gateway.paths import BadTargetError
from gateway.proxy.client import ClientConnection
from gateway.proxy.context import ProxyContext
from gateway.proxy.destinations import BrainDestination, PlainDestination, Routing
from gateway.proxy.exchange import Connection, Exchange
from gateway.proxy.heads import Headers, RequestHead, own_answer
from gateway.proxy.picking import Answered, Asker, Picked, Picking
from gateway.proxy.plain import PlainDelivery
from gateway.proxy.relay import Relay
from gateway.proxy.roster import Roster
from gateway.record import RequestRecord
from gateway.routes.edits import FieldEdits, location, rewritten
from gateway.routes.rules import Backend, TargetKind
from gateway.routes.table import Asked, Matched, chosen
from gateway.routes.targets import routable_path
from routing.fleet import Endpoint

_Fields: TypeAlias = Headers
_HOST: Final = b"host"
_CATCH_ALL: Final = frozenset({"", "/v1"})


class RoutedExchange(Exchange, Asker):
    """One request of a client on a routed port."""

    def __init__(
        self,
        context: ProxyContext,
        client: Connection,
        head: RequestHead,
        body: bytes,
        record: RequestRecord,
        routing: Routing,
    ) -> None:
        super().__init__(context, client, head, body, record)
        self._port_context = context  # of the port; `_context` becomes the destination's
        self._routing = routing
        self._plain: PlainDelivery | None = None
        self._picking: Picking | None = None
        self._picks_from: PlainDestination | None = None
        self._named = False  # a rule names the path, not just all or all below /v1

    # --- matching ----------------------------------------------------------------------------

    def start(self) -> None:
        """Find the rule, and go where it says."""
        try:
            self._refuse_overload()
            self._route_by_table()
        except BadTargetError as wrong:
            self._refuse(ApiError(400, "invalid_path", str(wrong)))
        except ApiError as error:
            self._refuse(error)

    def _refuse_overload(self) -> None:
        if self._context.overloaded:
            limit = self._context.settings.max_concurrent_requests
            raise ApiError(
                429, "too_many_requests", f"{limit} requests are in flight.", retry_after=1
            )

    def _route_by_table(self) -> None:
        head, record = self._head, self._record
        record.api = "route"
        path = record.path = routable_path(head.target)
        host = head.header(_HOST, b"")
        matched = self._routing.table.match(
            Asked(host, head.method, path, head.fields, head.target)
        )
        if matched is None:
            raise ApiError(404, "no_route", f"No route is for {path} here.")
        if matched.rule.redirect is not None:
            self._redirect(matched, host)
            return
        backend = chosen(matched.rule.backends, self._context.dice.random())
        if backend is None:
            raise ApiError(500, "no_backend", f"The route {matched.route.name} has no backend.")
        self._serve(matched, backend)

    def _redirect(self, matched: Matched, host: bytes) -> None:
        redirect = matched.rule.redirect
        assert redirect is not None
        routing = self._routing
        where = location(
            redirect,
            self._head.target,
            host,
            matched.match,
            scheme=routing.scheme,
            port=routing.port,
        )
        edits = FieldEdits([matched.rule.response])
        self._say(redirect.status, edits.applied([(b"location", where)]), b"", "")

    def _serve(self, matched: Matched, backend: Backend) -> None:
        target = backend.target
        if target.kind is TargetKind.BROKEN:
            raise ApiError(500, "invalid_backend", target.name)
        destination = self._routing.destination(target)
        if isinstance(destination, BrainDestination):
            self._head = _edited(self._head, matched, backend)
            self._context = self._routing.context(
                matched, backend, self._context, destination.brains
            )
            self._named = matched.match.path.value.rstrip("/") not in _CATCH_ALL
            super().start()
        elif isinstance(destination, PlainDestination):
            self._head = _edited(self._head, matched, backend)
            self._context = self._routing.context(
                matched, backend, self._context, self._context.brains
            )
            self._send(destination)
        else:
            raise ApiError(500, "invalid_backend", f"The backend {target} is not there.")

    def _operation(self, method: str, path: str) -> Route:
        """What answers at a pool: its APIs; any other path only where a rule names one.

        So a rule for all paths does not open what engines serve for their operators.
        """
        try:
            return super()._operation(method, path)
        except ApiError:
            if not self._named:
                raise
            return Forward(PASSTHROUGH)

    # --- plain addresses, and somebody else's picker -----------------------------------------

    def _send(self, destination: PlainDestination) -> None:
        self._record.endpoint = destination.name
        if destination.picker is None:
            self._deliver_plainly(destination.in_turn())
            return
        self._picks_from = destination
        head = self._head
        fields = [one for one in head.headers if for_pickers(one[0])]
        self._head = _with_fields(head, head.target, fields)
        self._client.expect_until(self._record.started + self._context.settings.request_timeout)
        self._picking = destination.picker.ask(
            self, self._head, self._body, self._client.origin.scheme
        )

    def _deliver_plainly(self, endpoints: list[Endpoint]) -> None:
        if not endpoints:
            raise ApiError(503, "no_endpoint", "The backend has no endpoint that is ready.")
        self._plain = PlainDelivery(
            self._context,
            self._client,
            self,
            self._head,
            self._body,
            self._record,
            endpoints,
            self._picking,
            keep_alive=self._keep_alive,
        )
        self._body = b""
        self._plain.start()

    def picked(self, picked: Picked) -> None:
        """The picker chose."""
        destination = self._picks_from
        assert destination is not None
        head = self._head
        self._head = _with_fields(head, head.target, picked.fields)
        self._body = picked.body
        try:
            self._deliver_plainly(destination.at(picked.addresses))
        except ApiError as error:
            self._let_picker_go()
            self._refuse(error)

    def answered(self, answer: Answered) -> None:
        """The picker answers itself: as much an answer as an endpoint's, in both failure modes."""
        self._let_picker_go()
        fields = answer.fields
        if self._context.edits is not None:
            fields = self._context.edits.applied(fields)
        self._say(answer.status, fields, answer.body, f"status_{answer.status}")

    def unpicked(self, reason: str) -> None:
        """The picker does not answer: choose without it, or fail, as the pool says."""
        destination = self._picks_from
        assert destination is not None
        self._let_picker_go()
        try:
            if not destination.fail_open:
                raise ApiError(
                    503, "picker_failed", f"The endpoint picker does not answer ({reason})."
                )
            self._deliver_plainly(destination.in_turn())
        except ApiError as error:
            self._refuse(error)

    def reviewed(self, fields: Headers) -> None:
        """The picker has seen the response's head."""
        if self._plain is not None:
            self._plain.reviewed(fields)

    def _let_picker_go(self) -> None:
        picking, self._picking = self._picking, None
        if picking is not None:
            picking.over()

    # --- ends --------------------------------------------------------------------------------

    def _say(self, status: int, fields: _Fields, body: bytes, reason: str) -> None:
        keep_alive = self._keep_alive
        record = self._record
        record.bytes_out = len(body)
        self._client.write(
            own_answer(
                status,
                fields,
                body,
                keep_alive=keep_alive,
                request_id=record.request_id.encode(),
                bodiless=self._head.method == "HEAD",
            )
        )
        self._end(status, reason)
        self._client.exchange_over(keep_alive=keep_alive)

    def delivered(self, relay: Relay, reason: str) -> None:
        """The response went out."""
        self._plain = None  # it refers back
        self._picking = None
        if self._port_context.draining:
            relay.keep_alive = False
        super().delivered(relay, reason)

    def undeliverable(self, error: ApiError) -> None:
        """Nobody answered, and nothing was relayed."""
        self._plain = None
        self._picking = None
        super().undeliverable(error)

    def cancel(self) -> None:
        """The client went away."""
        plain, self._plain = self._plain, None
        if plain is not None:
            plain.cancel()
        self._let_picker_go()
        super().cancel()

    # --- time and pressure -------------------------------------------------------------------

    def timed_out(self) -> None:
        """The deadline on the client's side passed."""
        if self._plain is not None:
            self._plain.timed_out()
        elif self._picking is not None:
            self.unpicked("timeout")
        else:
            super().timed_out()

    def client_blocked(self) -> None:
        """The client does not keep up."""
        if self._plain is not None:
            self._plain.client_blocked()
        else:
            super().client_blocked()

    def client_unblocked(self) -> None:
        """The client caught up."""
        if self._plain is not None:
            self._plain.client_unblocked()
        else:
            super().client_unblocked()


class RoutedConnection(ClientConnection):
    """A client's connection to a routed port."""

    def __init__(self, context: ProxyContext, roster: Roster, routing: Routing) -> None:
        super().__init__(context, roster)
        self._routing = routing

    def exchange(self, head: RequestHead, body: bytes) -> Exchange:
        """What answers a request: whatever it is routed to."""
        return RoutedExchange(
            self._context, self, head, body, self.record(head, body), self._routing
        )


def _edited(head: RequestHead, matched: Matched, backend: Backend) -> RequestHead:
    """The request as the rule's and the backend's filters want it."""
    rule = matched.rule
    edits = FieldEdits([rule.request, backend.request])
    rewrite = rule.rewrite
    if not edits and rewrite is None:
        return head
    fields = edits.applied(list(head.headers))
    target = head.target
    if rewrite is not None:
        if rewrite.path is not None:
            target = rewritten(target, matched.match, rewrite.path)
        if rewrite.hostname is not None:
            fields = [one for one in fields if one[0] != _HOST]
            fields.append((_HOST, rewrite.hostname.encode()))
    return _with_fields(head, target, fields)


def _with_fields(head: RequestHead, target: bytes, fields: Headers) -> RequestHead:
    return RequestHead(
        head.method, target, fields, keep_alive=head.keep_alive, chunked_ok=head.chunked_ok
    )
