"""A pool of endpoints: its brain, and what keeps that informed."""

from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from ssl import SSLContext

from endpoints.discovery.keeper import FleetKeeper
from endpoints.events import EventSettings, EventWatch, FeedView, new_residency
from endpoints.probes.prober import FleetProber
from endpoints.probes.settings import ProbeSettings
from gateway.settings import RoutingSettings, Settings
from routing.breaker import BreakerSettings
from routing.endpoint import Endpoint
from routing.fleet import Fleet
from routing.policies import make_policy
from routing.policies.policy import Policy
from routing.prefix.index import PrefixIndex
from routing.receipts import Receipts
from routing.retries import RetrySettings
from routing.router import Router, RouterSettings

STATIC = "default"
"""The pool of the endpoints that the configuration names."""


class Pool:
    """One pool, from `start` to `stop`.

    Each pool has a router of its own, so that ledgers, caches and learned times of one never
    speak for another's endpoints; so the index's memory budget is each pool's, too.
    ``changed`` is called with the endpoints' names after the fleet's members changed.
    ``requests`` counts the requests that an endpoint got, by name.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        *,
        clock: Callable[[], float],
        changed: Callable[[], None],
        requests: Callable[[str], int],
        policy: Policy | None = None,
    ) -> None:
        self.name = name
        self._events = None if settings.kv_events is None else settings.kv_events.events()
        self._clock = clock
        self._probes = ProbeSettings(
            interval=settings.probes.interval,
            timeout=settings.probes.timeout,
            models_interval=settings.probes.models_interval,
            unhealthy_after=settings.probes.unhealthy_after,
            healthy_after=settings.probes.healthy_after,
        )
        self._changed = changed
        self._requests = requests
        self._running = AsyncExitStack()
        self.router = new_router(settings.routing, self._events, policy)
        self._keeper = FleetKeeper(
            self.router.fleet,
            clock=clock,
            upsert=self.router.upsert_endpoint,
            remove=self.router.remove_endpoint,
            changed=self._members_changed,
        )
        self._named: tuple[Endpoint, ...] = ()
        self._started: tuple[Endpoint, ...] = ()
        self._prober: FleetProber | None = None
        self._watch: EventWatch | None = None

    async def start(self, tls: SSLContext | None = None) -> None:
        """Begin to probe endpoints and to follow what their caches do.

        ``tls``: who vouches for ``https://`` endpoints; None: whom the system trusts.
        """
        if self._events is not None:
            self._watch = EventWatch(
                self.router.fleet, self.router.residency, self._events, requests=self._requests
            )
            await self._watch.start()
            self._running.push_async_callback(self._watch.stop)
        self._prober = FleetProber(
            self.router.fleet,
            self._probes,
            clock=self._clock,
            on_restart=self._restarted,
            tls=tls,
        )
        await self._prober.start()
        self._running.push_async_callback(self._prober.stop)

    @property
    def keeper(self) -> FleetKeeper:
        """Who lets endpoints join and leave."""
        return self._keeper

    def apply(self, wanted: Iterable[Endpoint]) -> None:
        """Make these the pool's endpoints; ValueError, and nothing done, for a name twice."""
        wanted = tuple(wanted)
        self._keeper.apply((*wanted, *self._started))
        self._named = wanted

    def started(self, endpoints: Iterable[Endpoint]) -> None:
        """Beside those that discovery names, these are there, since we started them."""
        self._started = tuple(endpoints)
        self._keeper.apply((*self._named, *self._started))

    async def keep_sweeping(self) -> None:
        """Remove drained endpoints, for ever."""
        await self._keeper.keep_sweeping()

    async def wait_first_round(self, seconds: float) -> bool:
        """Wait until every endpoint has answered or failed once; False when some have not."""
        return self._prober is None or await self._prober.wait_first_round(seconds)

    def event_views(self) -> tuple[FeedView, ...]:
        """How the engines' cache events come in; empty when nobody follows them."""
        return () if self._watch is None else self._watch.views()

    async def stop(self) -> None:
        """Stop watching; harmless when it never started."""
        await self._running.aclose()

    def _restarted(self, endpoint: str) -> None:
        self.router.restarted(endpoint)
        if self._watch is not None:
            self._watch.restarted(endpoint)

    def _members_changed(self) -> None:
        if self._prober is not None:
            self._prober.sync()
        if self._watch is not None:
            self._watch.sync()
        if self.router.receipts is not None:
            self.router.receipts.keep_endpoints([state.name for state in self.router.fleet])
        self._changed()


def new_router(
    settings: RoutingSettings, events: EventSettings | None = None, policy: Policy | None = None
) -> Router:
    """A brain as the settings want it, knowing nothing yet; ``policy`` instead of the named."""
    return Router(
        Fleet(
            BreakerSettings(
                failures_in_a_row=settings.breaker.failures,
                open_seconds=settings.breaker.open_seconds,
                longest_open_seconds=settings.breaker.max_open_seconds,
            )
        ),
        PrefixIndex(settings.index_bytes),
        make_policy(settings.policy) if policy is None else policy,
        RouterSettings(
            fallbacks=settings.fallbacks,
            default_cache_tokens=settings.default_cache_tokens,
            max_requests_per_endpoint=settings.max_requests_per_endpoint,
            ttft_target=settings.objective.ttft,
            itl_target=settings.objective.itl,
            retries=RetrySettings(
                share=settings.retry_budget.fraction,
                minimum_per_second=settings.retry_budget.minimum_per_second,
            ),
            disaggregation=settings.disaggregation.decision(),
        ),
        new_residency(EventSettings() if events is None else events),
        Receipts(settings.receipts, settings.receipt_sample, reach=settings.receipt_reach),
    )
