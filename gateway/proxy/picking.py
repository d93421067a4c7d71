"""Somebody else's endpoint picker, as the data plane sees it."""

from collections.abc import Sequence

from mypy_extensions import trait

from gateway.proxy.heads import Headers, RequestHead


class Picked:
    """A picker's answer: whom to try, and what it changed of the request."""

    __slots__ = ("addresses", "body", "fields")

    def __init__(self, addresses: Sequence[str], fields: Headers, body: bytes) -> None:
        self.addresses = addresses
        """``host:port``, the first choice first."""
        self.fields = fields
        self.body = body


class Answered:
    """A picker's answer in place of any endpoint's."""

    __slots__ = ("body", "fields", "status")

    def __init__(self, status: int, fields: Headers, body: bytes) -> None:
        self.status = status
        self.fields = fields
        self.body = body


@trait
class Asker:
    """Whom a picker answers; a routed exchange in production. Never from within `ask`."""

    def picked(self, picked: Picked) -> None:
        """Endpoints were picked."""

    def answered(self, answer: Answered) -> None:
        """The picker refuses, or answers by itself."""

    def unpicked(self, reason: str) -> None:
        """The picker does not answer, or what it says can't be understood."""

    def reviewed(self, fields: Headers) -> None:
        """A response's fields as the picker wants them; they came back in any case."""


@trait
class Picking:
    """One request that a picker is asked about."""

    def served(self, address: str, status: int, fields: Headers) -> None:
        """Tell who answered; `Asker.reviewed` follows."""

    def over(self) -> None:
        """The request is over. Idempotent; the asker hears nothing after it."""


@trait
class EndpointPicker:
    """A picker that can be asked."""

    def ask(self, asker: Asker, head: RequestHead, body: bytes, scheme: bytes) -> Picking:
        """Have it pick; one of `Asker`'s first three methods follows."""
        raise NotImplementedError
