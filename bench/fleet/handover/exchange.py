"""One server's side of the KV transfer: what it gives, what it fetches, and what goes wrong."""

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.fleet.engine.scheduler import Engine
from bench.fleet.engine.sequence import Sequence
from bench.fleet.engine.stats import Histogram
from bench.fleet.errors import RequestError
from bench.fleet.handover.fabric import Fabric
from bench.fleet.handover.holds import Holds
from bench.fleet.handover.wishes import Deadly, Give, HandoverFields, Take, Wishes, wishes_of
from bench.fleet.settings import Behaviour, Connector, HandoverSettings, Role

_SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_HANDSHAKE_SECONDS = 1.0  # until an engine that is not there is given up


@dataclass(slots=True)
class Arrival:
    """What a request got and owes: told to the engine with its sequences."""

    received: int = 0
    """Tokens that were fetched."""
    stale: bool = False
    """What was fetched was no longer what it had been: the answer will be wrong."""
    cached: int | None = None
    """The prefill server's own cached tokens."""
    give: Give | None = None
    shares: bool = False
    fault: str = ""


@dataclass(slots=True)
class HandoverStats:
    """Counters beside those of the holds."""

    failed: int = 0
    bytes: int = 0
    seconds: Histogram = field(default_factory=lambda: Histogram(_SECONDS))


class KvExchange:
    """A server's connector. ``died`` tells whether a request killed the engine."""

    def __init__(
        self, settings: HandoverSettings, engine: Engine, fabric: Fabric, engine_id: str, seed: int
    ) -> None:
        self.settings = settings
        self.behaviour = Behaviour()
        self.engine_id = engine_id
        self.fabric = fabric
        self.holds = Holds(settings.lease, engine.give_back)
        self.stats = HandoverStats()
        self.died = ""
        self.address = ""
        self._dice = random.Random(seed)

    def start(self, address: str) -> None:
        """Be found at ``host:port``."""
        self.address = address
        self.fabric.join(address, self)

    def stop(self) -> None:
        """Be found no more."""
        self.fabric.leave(self.address)
        self.holds.clear()

    # --- a request comes ---------------------------------------------------------------------

    async def arrive(
        self, body: HandoverFields, headers: Mapping[str, str], request_id: str
    ) -> Arrival:
        """Fetch what the request is to begin with. Raises `RequestError`."""
        if self.died:
            raise _dead(self.died)
        wishes = self._of_role(wishes_of(self.settings.connector, body, headers, request_id))
        if wishes.deadly is not None:
            await self._die(wishes.deadly)
        arrival = Arrival(give=wishes.give, shares=wishes.shares)
        if wishes.give is not None:
            arrival.fault = self._draw()
        if wishes.take is not None:
            await self._fetch(wishes.take, arrival)
        return arrival

    def _of_role(self, wishes: Wishes) -> Wishes:
        """Where both wishes are in one request, the server's role says which is meant."""
        if wishes.give is None or wishes.take is None:
            return wishes
        if self.settings.role is Role.DECODE:
            return Wishes(take=wishes.take)
        return Wishes(give=wishes.give)

    def _draw(self) -> str:
        """The fault of a prefill, if one strikes."""
        faults = self.behaviour.handover
        for name in ("abort", "no_params", "wrong_params", "torn_params", "late"):
            if self._strikes(getattr(faults, f"{name}_rate")):
                return name
        return ""

    def _strikes(self, rate: float) -> bool:
        return rate > 0 and self._dice.random() < rate

    async def _die(self, deadly: Deadly) -> None:
        if deadly.hangs:
            try:
                await asyncio.Event().wait()
            finally:
                self.died = deadly.what
        self.died = deadly.what
        raise _dead(deadly.what)

    # --- fetching ----------------------------------------------------------------------------

    async def _fetch(self, take: Take, arrival: Arrival) -> None:
        scale = self.behaviour.time_scale
        source = self.fabric.at(take.source)
        wrong = source is not None and take.engine_id not in {None, source.engine_id}
        if (
            source is None
            or wrong
            or source.died
            or self._strikes(self.behaviour.handover.transfer_rate)
        ):
            self.stats.failed += 1
            await asyncio.sleep(_HANDSHAKE_SECONDS * scale)
            raise RequestError(500, "InternalServerError", "Internal server error")
        if take.waits:
            try:
                async with asyncio.timeout(self.settings.patience):
                    await source.holds.offered(take.key)
            except TimeoutError:
                self.stats.failed += 1
                raise RequestError(500, "InternalServerError", "KV transfer timed out") from None
        hold = source.holds.take(take.key)
        if hold is None:
            # What real servers do: read whatever is in those blocks by now.
            arrival.stale = True
            arrival.received = 0
            return
        try:
            await self._move(hold.tokens, scale)
        finally:
            source.holds.done(hold)
        arrival.received = hold.tokens
        arrival.cached = hold.sequence.cached_tokens

    async def _move(self, tokens: int, scale: float) -> None:
        link = self.behaviour.link
        size = tokens * link.bytes_per_token
        seconds = link.latency + size / link.bandwidth
        await asyncio.sleep(seconds * scale)
        self.stats.bytes += size
        self.stats.seconds.observe(seconds)

    # --- a request is computed ---------------------------------------------------------------

    def attach(self, arrival: Arrival, sequence: Sequence) -> None:
        """Tell the engine what a sequence begins with, and who takes its blocks over."""
        size = sequence.block_size
        received = arrival.received
        if arrival.shares:
            received = self.fabric.stored(sequence.chain) * size
            sequence.keep = self._share
        if received > len(sequence.prompt) and not arrival.shares:
            received = len(sequence.prompt)
        elif -(-len(sequence.prompt) // size) > -(-received // size) > 0 and not arrival.shares:
            self.died = "assert num_decode_blocks <= len(prefill_group)"
            raise _dead(self.died)
        sequence.external = received
        if arrival.cached is not None:
            counts_all = self.settings.counts_all_cached
            sequence.reported_cached = len(sequence.prompt) if counts_all else arrival.cached
        give = arrival.give
        if arrival.fault == "abort":
            sequence.told_aborted = True
        elif give is not None:
            sequence.keep = lambda ended: self.holds.offer(give.key, ended)

    def _share(self, sequence: Sequence) -> None:
        """Put a sequence's blocks into the store that all share."""
        self.fabric.store(sequence.chain)
        self.holds.free(sequence)

    # --- a request was computed --------------------------------------------------------------

    async def answered(self, arrival: Arrival) -> None:
        """Before a prefill is answered: it may be late, or wait until somebody has fetched."""
        give = arrival.give
        if give is None:
            return
        try:
            if arrival.fault == "late":
                await asyncio.sleep(self.behaviour.handover.late_seconds)
            if give.attends:
                await self.holds.left(give.key)
        except asyncio.CancelledError:
            self.holds.withdraw(give.key)  # as a prefill that is still computed would be aborted
            raise

    def params(self, arrival: Arrival, sequence: Sequence) -> dict[str, Any] | None:
        """``kv_transfer_params`` of a prefill's answer; None: it has none."""
        give = arrival.give
        if give is None or self.settings.connector is not Connector.NIXL:
            return None
        if arrival.fault in {"no_params", "abort"}:
            return None
        host, _, port = self.address.rpartition(":")
        blocks = sequence.blocks_for(len(sequence.prompt))
        params: dict[str, Any] = {
            "do_remote_prefill": True,
            "do_remote_decode": False,
            "remote_block_ids": [list(range(blocks))],
            "remote_engine_id": self.engine_id,
            "remote_request_id": give.key,
            "remote_host": host,
            "remote_port": int(port),
            "tp_size": 1,
            "remote_num_tokens": len(sequence.prompt),
            "remote_blocks_expiry_time": None,
            "remote_prefill_cached_tokens": sequence.cached_tokens,
        }
        if arrival.fault == "wrong_params":
            params["remote_engine_id"] = "nobody"
        if arrival.fault == "torn_params":
            del params[self._dice.choice(("remote_block_ids", "remote_engine_id"))]
        return params


def _dead(what: str) -> RequestError:
    return RequestError(500, "EngineDeadError", f"EngineCore encountered an issue: {what}")
