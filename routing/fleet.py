"""All endpoints the gateway knows, and who may be chosen for a model.

Discovery adds and removes, probes and the data plane observe. What a decision asks for,
`Fleet.candidates`, is answered from groups that are rebuilt only when membership, health,
models or a breaker's admission change. Observations about a name that is not in the fleet are
ignored: a probe may outlive its endpoint.
"""

from collections.abc import Hashable, Iterable, Iterator, Sequence
from math import inf
from types import MappingProxyType

from routing.breaker import Breaker, BreakerSettings, Circuit
from routing.endpoint import Endpoint, EndpointState, Health, Load, ServedModel
from routing.latency import PoolTiming, Timing
from routing.loads import Group, LoadTable

__all__ = ["Endpoint", "EndpointState", "Fleet", "Health", "Load", "ServedModel"]


class Fleet:
    """The endpoints by name, in the order in which they joined."""

    def __init__(self, breaker: BreakerSettings | None = None) -> None:
        self.table = LoadTable()
        """The loads of all endpoints, as columns."""
        self.pools: dict[str, PoolTiming] = {}
        """What endpoints of each kind of hardware have in common, by the label's value."""
        self._breaker_settings = breaker or BreakerSettings()
        self._states: dict[str, EndpointState] = {}
        self._available: Group | None = None  # None: to be rebuilt
        self._by_model: dict[str, Group] = {}
        self._open: set[EndpointState] = set()  # whose breaker is open
        self._reopens_at = inf  # no breaker becomes half-open before

    def __len__(self) -> int:
        return len(self._states)

    def __iter__(self) -> Iterator[EndpointState]:
        return iter(self._states.values())

    # -- membership: what discovery tells --------------------------------------------------

    def upsert(self, endpoint: Endpoint, now: float) -> EndpointState:
        """Add an endpoint, or give a known one its new facts; what is in flight there stays.

        A new URL is another server: what was observed of the old one is dropped. Naming a
        draining endpoint again takes it back.
        """
        state = self._states.get(endpoint.name)
        if state is None:
            state = self._states[endpoint.name] = EndpointState(endpoint, health_since=now)
            state.breaker = Breaker(self._breaker_settings, now)
            state.timing = self._timing(endpoint.hardware)
            self.table.add(state)
        elif state.endpoint.url != endpoint.url:
            state.models, state.models_at, state.load, state.engine = None, None, None, None
            state.foreign_waiting = state.foreign_running = 0.0
            state.pinned = None
            state.breaker = Breaker(self._breaker_settings, now)
            self._open.discard(state)
            self.table.touch(state)
            self._set_health(state, Health.UNKNOWN, now, "its address changed")
        elif state.health is Health.DRAINING:
            self._set_health(state, Health.UNKNOWN, now, "back in the fleet")
        state.endpoint = endpoint
        if endpoint.engine is not None:
            state.engine = endpoint.engine
        if endpoint.models is not None:
            known = state.models or {}
            state.models = MappingProxyType(
                {name: known.get(name, ServedModel(name)) for name in endpoint.models}
            )
        self._available = None
        return state

    def drain(self, name: str, now: float) -> None:
        """Give the endpoint nothing new; what it has may finish."""
        state = self._states.get(name)
        if state is not None:
            self._set_health(state, Health.DRAINING, now, "leaving the fleet")

    def remove(self, name: str) -> EndpointState | None:
        """Take the endpoint out and return its last state; None when it was not there."""
        state = self._states.pop(name, None)
        if state is not None:
            self._open.discard(state)
            self.table.remove(state)
            state.timing.leave_pool()
            self._available = None
        return state

    def get(self, name: str) -> EndpointState | None:
        """The endpoint's state, or None."""
        return self._states.get(name)

    # -- observations: what probes and the data plane tell ---------------------------------

    def observe_load(self, name: str, load: Load) -> None:
        """A scrape. Requests that the ledger can't explain, now or lately, are somebody else's."""
        state = self._states.get(name)
        if state is None:
            return
        state.load = load
        state.crowding = crowding(load)
        waiting, running = load.waiting or 0.0, load.running or 0.0
        foreign = max(waiting + running - state.ledger.most_requests(), 0.0)
        state.foreign_waiting = min(waiting, foreign)
        state.foreign_running = foreign - state.foreign_waiting
        self.table.touch(state)

    def observe_models(self, name: str, models: Iterable[ServedModel], now: float) -> None:
        """What the endpoint says it serves. Names configured for it win over this list."""
        state = self._states.get(name)
        if state is None:
            return
        served = {model.name: model for model in models}
        if state.endpoint.models is not None:
            served = {name: served.get(name, ServedModel(name)) for name in state.endpoint.models}
        state.models_at = now
        if served != state.models:
            state.models = MappingProxyType(served)
            self._available = None

    def observe_engine(self, name: str, engine: str) -> None:
        """The engine a probe detected; a configured one wins."""
        state = self._states.get(name)
        if state is not None and state.endpoint.engine is None:
            state.engine = engine

    def observe_health(self, name: str, healthy: bool, now: float, reason: str) -> None:
        """The result of an active check. It never takes an endpoint back from draining.

        Only a recovery matters to the breaker: a server may answer its health path and fail
        every request.
        """
        state = self._states.get(name)
        if state is None or state.health is Health.DRAINING:
            return
        if healthy and state.health is not Health.HEALTHY:
            state.breaker.recovered(now)
            self._open.discard(state)
        self._set_health(state, Health.HEALTHY if healthy else Health.UNHEALTHY, now, reason)

    # -- what became of requests: what the data plane tells ----------------------------------

    def sending(self, state: EndpointState, request: Hashable) -> None:
        """A request is meant for the endpoint."""
        breaker = state.breaker
        if breaker.circuit is not Circuit.CLOSED:
            breaker.sending(request)
            self._available = None

    def answered(self, state: EndpointState, request: Hashable, now: float) -> None:
        """The answer to a request began."""
        breaker = state.breaker
        if breaker.circuit is not Circuit.CLOSED:
            breaker.answered(request, now)
            self._available = None

    def observe_success(self, name: str, request: Hashable, now: float) -> None:
        """A request ended well."""
        state = self._states.get(name)
        if state is not None:
            state.answered_at = now
            self.answered(state, request, now)
            state.breaker.succeeded(request, now)

    def observe_failure(
        self, name: str, now: float, reason: str, *, refused: bool, request: Hashable = None
    ) -> None:
        """A request failed there. A refused connection is a matter of health, others are not."""
        state = self._states.get(name)
        if state is None:
            return
        if refused:
            self.unproven(state, request)
            if state.health is Health.HEALTHY:
                self._set_health(state, Health.UNHEALTHY, now, reason)
            return
        breaker = state.breaker
        breaker.failed(request, now)
        if breaker.circuit is Circuit.OPEN and state not in self._open:
            assert breaker.half_open_at is not None
            self._open.add(state)
            self._reopens_at = min(self._reopens_at, breaker.half_open_at)
            self._available = None

    def unproven(self, state: EndpointState, request: Hashable) -> None:
        """A request ended without telling anything about the endpoint."""
        breaker = state.breaker
        if breaker.circuit is not Circuit.CLOSED:
            breaker.unproven(request)
            self._available = None

    def tick(self, now: float) -> None:
        """Time passed: open breakers whose time is over admit a probe. O(1) until then."""
        if now < self._reopens_at:
            return
        for state in self._open:
            state.breaker.tick(now)
        self._open = {state for state in self._open if state.breaker.circuit is Circuit.OPEN}
        self._reopens_at = min(map(_half_open_at, self._open), default=inf)
        self._available = None

    # -- questions: what decisions ask -----------------------------------------------------

    def candidates(self, model: str | None) -> Group | None:
        """The endpoints that may get a request for ``model`` (None: any); None without any.

        O(1) while nothing changed. The group is shared: read it, don't keep it.
        """
        if self._available is None:
            self._available = self._rebuild()
        if model is not None:
            return self._by_model.get(model)
        return self._available if self._available.endpoints else None

    def serving(self, model: str | None) -> Sequence[EndpointState]:
        """The endpoints of `candidates`, in stable order; empty without any."""
        group = self.candidates(model)
        return () if group is None else group.endpoints

    def reopens_at(self, model: str | None) -> float | None:
        """When the first well endpoint for ``model`` behind an open breaker gets a probe."""
        times = [
            _half_open_at(state)
            for state in self._open
            if state.health is Health.HEALTHY
            and (model is None or (state.models is not None and model in state.models))
        ]
        return min(times, default=None)

    def models(self) -> dict[str, ServedModel]:
        """All models that some available endpoint serves, in the order of the endpoints."""
        union: dict[str, ServedModel] = {}
        for state in self.serving(None):
            for name, model in (state.models or {}).items():
                union.setdefault(name, model)
        return union

    def knows(self, model: str) -> bool:
        """Whether some endpoint, healthy or not, serves ``model``."""
        return any(state.models is not None and model in state.models for state in self)

    def base_of(self, model: str) -> str:
        """The base model that ``model`` is an adapter of; itself when it is none, or unknown."""
        group = self.candidates(model)
        served = None if group is None else (group.endpoints[0].models or {}).get(model)
        return model if served is None or served.base is None else served.base

    def url_of(self, model: str) -> str | None:
        """The address of the endpoint for ``model`` with the fewest requests; None without any."""
        states = self.serving(model)
        if not states:
            return None
        return min(states, key=lambda state: state.ledger.requests).endpoint.url

    def adapter(self, model: str) -> str | None:
        """The name of the LoRA adapter that ``model`` is; None for a base model."""
        return None if self.base_of(model) == model else model

    @property
    def undecided(self) -> bool:
        """Whether the models of some endpoint are not known yet."""
        return any(state.models is None for state in self)

    def _timing(self, hardware: str) -> Timing:
        pool = self.pools.get(hardware)
        if pool is None:
            pool = self.pools[hardware] = PoolTiming()
        return Timing(pool)

    def _rebuild(self) -> Group:
        available = [state for state in self if state.available]
        prefillers = [state for state in available if state.endpoint.prefills]
        decoders = [state for state in available if state.endpoint.decodes]
        by_model: dict[str, list[EndpointState]] = {}
        for state in decoders:
            for name in state.models or ():
                by_model.setdefault(name, []).append(state)
        self._by_model = {
            name: Group(
                states,
                self.table,
                [state for state in prefillers if name in (state.models or ())],
            )
            for name, states in by_model.items()
        }
        return Group(decoders, self.table, prefillers)

    def _set_health(self, state: EndpointState, health: Health, now: float, reason: str) -> None:
        if state.health is not health:
            state.health, state.health_since = health, now
            self._available = None
        state.health_reason = reason


def crowding(load: Load) -> float:
    """The chance that KV memory taken now will be missed: the cube of the share in use.

    Requests come and go, so memory runs out now and then before it is full on average, and
    hardly ever when a third is in use. The exponent is from a sweep over 2 to 8 on prompts that
    share prefixes: below 3 nearly empty engines already count, above 4 two that are nearly full
    differ by so much that requests flee from one to the other.
    """
    usage = min(max(load.kv_usage or 0.0, 0.0), 1.0)
    return usage * usage * usage


def _half_open_at(state: EndpointState) -> float:
    at = state.breaker.half_open_at
    return inf if at is None else at
