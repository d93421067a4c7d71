"""The pickers that are in use, each with its connections.

A picker is asked over one connection, a second one only when the first has no stream left. Its
addresses take turns: one that can't be reached is passed over.
"""

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, cast

from gateway.gatewayapi.backends import PickerPlan
from gateway.h2.channel import ClientChannel
from gateway.h2.client import NoStreamError
from gateway.picking.call import PickerCall
from gateway.picking.channel import Channel
from gateway.proxy.heads import RequestHead
from gateway.proxy.picking import Asker, EndpointPicker, Picking
from gateway.settings import PickerSettings

_MOST_CONNECTIONS: Final = 8


class _Waiting(Picking):
    """A request that waits for a connection."""

    def __init__(self, asker: Asker, head: RequestHead, body: bytes, scheme: bytes) -> None:
        self._asker: Asker | None = asker
        self._head = head
        self._body = body
        self._scheme = scheme
        self._call: PickerCall | None = None

    def go(self, channel: Channel | None, seconds: float) -> None:
        """Ask there; None: nowhere."""
        asker = self._asker
        if asker is None:
            return
        if channel is None:
            asker.unpicked("picker_unreachable")
            return
        try:
            self._call = channel.ask(asker, self._head, self._body, self._scheme, seconds)
        except NoStreamError:
            asker.unpicked("picker_busy")
        self._body = b""

    def served(self, address: str, status: int, fields: list[tuple[bytes, bytes]]) -> None:
        """Tell who answered."""
        assert self._call is not None
        self._call.served(address, status, fields)

    def over(self) -> None:
        """The request is over."""
        self._asker = None
        if self._call is not None:
            self._call.over()


@dataclass(eq=False)
class GrpcPicker(EndpointPicker):
    """One picker."""

    plan: PickerPlan
    """Where it is; may be another one while requests are asked about."""
    settings: PickerSettings
    _channels: list[Channel] = field(default_factory=list)
    _waiting: list[_Waiting] = field(default_factory=list)
    _connecting: asyncio.Task[None] | None = None
    _turn: int = 0

    def ask(self, asker: Asker, head: RequestHead, body: bytes, scheme: bytes) -> Picking:
        """Have it pick."""
        waiting = _Waiting(asker, head, body, scheme)
        self._waiting.append(waiting)
        loop = asyncio.get_running_loop()
        if self._channel() is not None:
            loop.call_soon(self._let_go)  # an asker is never called back from within
        elif self._connecting is None:
            self._connecting = loop.create_task(self._connect())
        return waiting

    def _let_go(self) -> None:
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.go(self._channel(), self.settings.timeout)

    def _channel(self) -> Channel | None:
        here = self.plan.addresses
        return next((one for one in self._channels if one.free and one.address in here), None)

    async def _connect(self) -> None:
        try:
            for channel in [one for one in self._channels if one.idle]:
                if channel.address not in self.plan.addresses:
                    channel.close()
            if len(self._channels) < _MOST_CONNECTIONS:
                await self._connect_somewhere()
        finally:
            self._connecting = None
            self._let_go()

    async def _connect_somewhere(self) -> None:
        addresses = self.plan.addresses
        self._turn += 1
        for step in range(len(addresses)):
            address = addresses[(self._turn + step) % len(addresses)]
            host, _, port = address.rpartition(":")
            try:
                async with asyncio.timeout(self.settings.connect_timeout):
                    _, protocol = await asyncio.get_running_loop().create_connection(
                        self._new_channel,
                        host.strip("[]"),
                        int(port),
                        ssl=_trusting() if self.settings.tls == "unverified" else None,
                    )
            except (TimeoutError, OSError):
                continue
            channel = cast(Channel, cast(object, protocol))
            channel.address = address
            self._channels.append(channel)
            return

    def _new_channel(self) -> asyncio.BaseProtocol:
        scheme = b"https" if self.settings.tls == "unverified" else b"http"
        channel = Channel(scheme, self.plan.name.encode(), self._gone)
        return cast(asyncio.BaseProtocol, cast(object, channel))

    def _gone(self, channel: ClientChannel) -> None:
        self._channels = [one for one in self._channels if one is not channel]

    def close(self) -> None:
        """Close its connections; requests that are asked about hear of it."""
        if self._connecting is not None:
            self._connecting.cancel()
        for channel in list(self._channels):
            channel.close()


class GrpcPickers:
    """All of them, by where they are."""

    def __init__(self, settings: PickerSettings) -> None:
        self._settings = settings
        self._pickers: dict[tuple[str, int], GrpcPicker] = {}  # by Service and port

    def picker(self, found: PickerPlan) -> GrpcPicker:
        """The picker of that Service: requests that it is asked about survive its moves."""
        key = (found.name, found.port)
        known = self._pickers.get(key)
        if known is None:
            known = self._pickers[key] = GrpcPicker(found, self._settings)
        known.plan = found
        return known

    def keep(self, wanted: Sequence[PickerPlan]) -> None:
        """Close those that are in use no more."""
        kept = {(one.name, one.port) for one in wanted}
        for key in set(self._pickers) - kept:
            self._pickers.pop(key).close()

    async def stop(self) -> None:
        """Close everything."""
        self.keep(())
        await asyncio.sleep(0)


def _trusting() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    return context
