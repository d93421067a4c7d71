"""All endpoints the gateway knows, and who may be chosen for a model.

Discovery adds and removes, probes and the data plane observe. What a decision asks for,
`Fleet.serving`, is answered from a table that is rebuilt only when membership, health or
models change. Observations about a name that is not in the fleet are ignored: a probe may
outlive its endpoint.
"""

from collections.abc import Iterable, Iterator, Sequence
from types import MappingProxyType

from routing.endpoint import Endpoint, EndpointState, Health, Load, ServedModel

__all__ = ["Endpoint", "EndpointState", "Fleet", "Health", "Load", "ServedModel"]

FAILURES_TO_UNHEALTHY = 3
"""Failed requests in a row after which an endpoint gets no more until a probe finds it well."""


class Fleet:
    """The endpoints by name, in the order in which they joined."""

    def __init__(self) -> None:
        self._states: dict[str, EndpointState] = {}
        self._healthy: tuple[EndpointState, ...] | None = None  # None: to be rebuilt
        self._by_model: dict[str, list[EndpointState]] = {}

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
        elif state.endpoint.url != endpoint.url:
            state.models, state.models_at, state.load, state.engine = None, None, None, None
            state.foreign_waiting = state.foreign_running = 0.0
            state.consecutive_failures = 0
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
        self._healthy = None
        return state

    def drain(self, name: str, now: float) -> None:
        """Give the endpoint nothing new; what it has may finish."""
        state = self._states.get(name)
        if state is not None:
            self._set_health(state, Health.DRAINING, now, "leaving the fleet")

    def remove(self, name: str) -> EndpointState | None:
        """Take the endpoint out and return its last state; None when it was not there."""
        self._healthy = None
        return self._states.pop(name, None)

    def get(self, name: str) -> EndpointState | None:
        """The endpoint's state, or None."""
        return self._states.get(name)

    # -- observations: what probes and the data plane tell ---------------------------------

    def observe_load(self, name: str, load: Load) -> None:
        """A scrape. Requests that the ledger can't explain now are somebody else's."""
        state = self._states.get(name)
        if state is None:
            return
        state.load = load
        waiting, running = load.waiting or 0.0, load.running or 0.0
        foreign = max(waiting + running - state.ledger.requests, 0.0)
        state.foreign_waiting = min(waiting, foreign)
        state.foreign_running = foreign - state.foreign_waiting

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
            self._healthy = None

    def observe_engine(self, name: str, engine: str) -> None:
        """The engine a probe detected; a configured one wins."""
        state = self._states.get(name)
        if state is not None and state.endpoint.engine is None:
            state.engine = engine

    def observe_health(self, name: str, healthy: bool, now: float, reason: str) -> None:
        """The result of an active check. It never takes an endpoint back from draining.

        Only a recovery forgets the failures in a row: a server may answer its health path
        and fail every request.
        """
        state = self._states.get(name)
        if state is None or state.health is Health.DRAINING:
            return
        if healthy and state.health is not Health.HEALTHY:
            state.consecutive_failures = 0
        self._set_health(state, Health.HEALTHY if healthy else Health.UNHEALTHY, now, reason)

    def observe_failure(self, name: str, now: float, reason: str, *, refused: bool) -> None:
        """A request failed there. A refused connection counts at once, others three in a row."""
        state = self._states.get(name)
        if state is None:
            return
        state.consecutive_failures += 1
        if state.health is Health.HEALTHY and (
            refused or state.consecutive_failures >= FAILURES_TO_UNHEALTHY
        ):
            self._set_health(state, Health.UNHEALTHY, now, reason)

    def observe_success(self, name: str) -> None:
        """A request went well there: the row of failures is broken."""
        state = self._states.get(name)
        if state is not None:
            state.consecutive_failures = 0

    # -- questions: what decisions ask -----------------------------------------------------

    def serving(self, model: str | None) -> Sequence[EndpointState]:
        """The healthy endpoints that serve ``model`` (None: all healthy ones), in stable order.

        O(1) while nothing changed. The sequence is shared: read it, don't keep it.
        """
        if self._healthy is None:
            self._healthy = self._rebuild()
        return self._healthy if model is None else self._by_model.get(model, ())

    def models(self) -> dict[str, ServedModel]:
        """All models that some healthy endpoint serves, in the order of the endpoints."""
        union: dict[str, ServedModel] = {}
        for state in self.serving(None):
            for name, model in (state.models or {}).items():
                union.setdefault(name, model)
        return union

    def knows(self, model: str) -> bool:
        """Whether some endpoint, healthy or not, serves ``model``."""
        return any(state.models is not None and model in state.models for state in self)

    @property
    def undecided(self) -> bool:
        """Whether the models of some endpoint are not known yet."""
        return any(state.models is None for state in self)

    def _rebuild(self) -> tuple[EndpointState, ...]:
        healthy = tuple(state for state in self if state.health is Health.HEALTHY)
        self._by_model = {}
        for state in healthy:
            for name in state.models or ():
                self._by_model.setdefault(name, []).append(state)
        return healthy

    def _set_health(self, state: EndpointState, health: Health, now: float, reason: str) -> None:
        if state.health is not health:
            state.health, state.health_since = health, now
            self._healthy = None
        state.health_reason = reason
