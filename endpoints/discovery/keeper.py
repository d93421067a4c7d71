"""Making the fleet agree with discovery, without cutting off a request in flight."""

import asyncio
import logging
from collections.abc import Callable, Iterable

from endpoints.discovery.leaving import Leaving, quiet
from endpoints.discovery.reconcile import Changes, reconcile
from routing.fleet import Endpoint, EndpointState, Fleet, Health

logger = logging.getLogger(__name__)


class FleetKeeper:
    """Applies wanted sets of endpoints to the fleet.

    An endpoint that is not wanted any more is drained: it gets nothing new, and is removed
    once nothing of ours is in flight there, or after ``grace`` seconds. `retire` does the same
    to one that still exists, for whoever is about to end it; `endpoints.discovery.leaving` has
    the contract. ``upsert`` and ``remove`` change membership (there may be more to it than the
    fleet). ``changed`` is called after the fleet's membership or an endpoint's facts changed.
    ``settle``: seconds after which other gateways know what they are told.
    """

    def __init__(
        self,
        fleet: Fleet,
        *,
        clock: Callable[[], float],
        upsert: Callable[[Endpoint, float], object],
        remove: Callable[[str], object],
        changed: Callable[[], None],
        grace: float = 60.0,
        settle: float = 1.0,
    ) -> None:
        self._fleet = fleet
        self._clock = clock
        self._upsert = upsert
        self._remove = remove
        self._changed = changed
        self._grace = grace
        self._settle = settle
        self._wanted: dict[str, Endpoint] = {}
        self._retired: dict[str, Leaving] = {}

    def apply(self, wanted: Iterable[Endpoint]) -> Changes:
        """Make ``wanted`` the fleet; ValueError, and nothing done, when a name comes twice.

        An endpoint that is wanted again while it drains is taken back, unless it is retired.
        """
        wanted = tuple(wanted)
        current = {
            state.name: state.endpoint
            for state in self._fleet
            if state.health is not Health.DRAINING
        }
        retired = self._retired
        changes = reconcile(current, [one for one in wanted if one.name not in retired])
        self._wanted = {endpoint.name: endpoint for endpoint in wanted}
        for name in retired.keys() - self._wanted.keys():
            del retired[name]  # it is gone, which is what was wanted of it
        now = self._clock()
        for endpoint in (*changes.added, *changes.changed):
            self._upsert(endpoint, now)
        for name in changes.removed:
            self._fleet.drain(name, now)
        if changes:
            names = {
                "added": [endpoint.name for endpoint in changes.added],
                "changed": [endpoint.name for endpoint in changes.changed],
                "removed": list(changes.removed),
            }
            logger.info("endpoints: %s", _in_words(names), extra=names)
            self._changed()
            self.sweep()
        return changes

    # -- leaving, by order -------------------------------------------------------------------

    def retire(self, name: str, grace: float | None = None) -> Leaving:
        """Drain an endpoint that still exists; told again, nothing changes.

        The result says when it is drained and may be ended. An endpoint that is not in the
        fleet is drained already.
        """
        leaving = self._retired.get(name)
        if leaving is not None:
            return leaving
        now = self._clock()
        leaving = Leaving(name, now, self._grace if grace is None else grace)
        self._retired[name] = leaving
        if self._fleet.get(name) is None:
            leaving.drained_at = now
        else:
            self._fleet.drain(name, now)
            logger.info("%s drains", name, extra={"endpoint": name})
            self._changed()
        return leaving

    def restore(self, name: str) -> None:
        """Take a retired endpoint back, as far as discovery still names it."""
        if self._retired.pop(name, None) is None:
            return
        endpoint = self._wanted.get(name)
        if endpoint is not None:
            self._upsert(endpoint, self._clock())
            logger.info("%s is back in the fleet", name, extra={"endpoint": name})
            self._changed()

    def leaving(self, name: str) -> Leaving | None:
        """How far a retired endpoint is; None: it is not retired, or is gone."""
        return self._retired.get(name)

    @property
    def retired(self) -> tuple[str, ...]:
        """The endpoints that are retired and still exist."""
        return tuple(self._retired)

    def sweep(self) -> tuple[str, ...]:
        """Remove the drained endpoints that are done, or whose grace is over; their names."""
        now = self._clock()
        done = tuple(
            state for state in self._fleet if state.health is Health.DRAINING and self._done(state)
        )
        for state in done:
            leaving = self._retired.get(state.name)
            if leaving is not None:
                leaving.drained_at, leaving.cut = now, state.ledger.requests
            self._remove(state.name)
            logger.info("%s left the fleet", state.name, extra={"endpoint": state.name})
        if done:
            self._changed()
        return tuple(state.name for state in done)

    def _done(self, state: EndpointState) -> bool:
        now, leaving = self._clock(), self._retired.get(state.name)
        if leaving is None:
            return state.ledger.requests == 0 or now - state.health_since >= self._grace
        return now - leaving.since >= leaving.grace or quiet(
            state, leaving.since, now, self._settle
        )

    async def keep_sweeping(self, interval: float = 0.5) -> None:
        """Sweep every ``interval`` seconds; runs until cancelled."""
        while True:
            await asyncio.sleep(interval)
            self.sweep()


def _in_words(names: dict[str, list[str]]) -> str:
    return "; ".join(f"{what} {', '.join(which)}" for what, which in names.items() if which)
