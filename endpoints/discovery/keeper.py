"""Making the fleet agree with discovery, without cutting off a request in flight."""

import asyncio
import logging
from collections.abc import Callable, Iterable

from endpoints.discovery.reconcile import Changes, reconcile
from routing.fleet import Endpoint, Fleet, Health

logger = logging.getLogger(__name__)


class FleetKeeper:
    """Applies wanted sets of endpoints to the fleet.

    An endpoint that is not wanted any more is drained: it gets nothing new, and is removed
    once nothing of ours is in flight there, or after ``grace`` seconds. ``upsert`` and
    ``remove`` change membership (there may be more to it than the fleet). ``changed`` is
    called after the fleet's membership or an endpoint's facts changed.
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
    ) -> None:
        self._fleet = fleet
        self._clock = clock
        self._upsert = upsert
        self._remove = remove
        self._changed = changed
        self._grace = grace

    def apply(self, wanted: Iterable[Endpoint]) -> Changes:
        """Make ``wanted`` the fleet; ValueError, and nothing done, when a name comes twice.

        An endpoint that is wanted again while it drains is taken back.
        """
        current = {
            state.name: state.endpoint
            for state in self._fleet
            if state.health is not Health.DRAINING
        }
        changes = reconcile(current, wanted)
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

    def sweep(self) -> tuple[str, ...]:
        """Remove the drained endpoints that are done, or whose grace is over; their names."""
        now = self._clock()
        done = tuple(
            state.name
            for state in self._fleet
            if state.health is Health.DRAINING
            and (state.ledger.requests == 0 or now - state.health_since >= self._grace)
        )
        for name in done:
            self._remove(name)
            logger.info("%s left the fleet", name, extra={"endpoint": name})
        if done:
            self._changed()
        return done

    async def keep_sweeping(self, interval: float = 0.5) -> None:
        """Sweep every ``interval`` seconds; runs until cancelled."""
        while True:
            await asyncio.sleep(interval)
            self.sweep()


def _in_words(names: dict[str, list[str]]) -> str:
    return "; ".join(f"{what} {', '.join(which)}" for what, which in names.items() if which)
