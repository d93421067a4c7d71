"""Whatever happens in whatever order, no reservation leaks and none is given back twice."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from routing.breaker import Circuit
from routing.decision import Decision, Phase
from routing.fleet import Endpoint, EndpointState, Fleet, Health
from routing.policies import POLICIES, make_policy
from routing.prefix.chain import text_chain
from routing.prefix.index import PrefixIndex
from routing.request import Request
from routing.router import Router, RouterSettings
from tests.support.reports import WHICH, Reports

NAMES = st.sampled_from(["a", "b", "c"])
IN_FLIGHT = {Phase.ROUTED, Phase.SENT, Phase.DECODING}


class AnyOrder(Reports):
    def __init__(self) -> None:
        super().__init__()
        self.states: list[EndpointState] = []  # all that ever were

    @initialize(policy=st.sampled_from(sorted(POLICIES)), limit=st.none() | st.integers(1, 4))
    def begin(self, policy: str, limit: int | None) -> None:
        self.router = Router(
            Fleet(),
            PrefixIndex(40_000),
            make_policy(policy),
            RouterSettings(max_requests_per_endpoint=limit, default_cache_tokens=2_000),
        )
        for name in "abc":
            self.upsert(name)
            self.router.fleet.observe_health(name, True, self.now, "ok")

    @rule(seconds=st.floats(0, 3))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(
        prompt=st.text("xy", max_size=12),
        streamed=st.booleans(),
        model=st.sampled_from(["m", "m", "m", "lora", "unknown", None]),
    )
    def route(self, prompt: str, streamed: bool, model: str | None) -> None:
        text = "".join(letter * 256 for letter in prompt).encode()
        chain = text_chain(b"", text)
        request = Request("r", model, (chain,), len(text) / 4, streamed=streamed)
        self.router.fleet.tick(self.now)
        available = {state for state in self.router.fleet if state.available}
        routed = self.router.route(request, self.now)
        if isinstance(routed, Decision):
            assert routed.endpoint.health is Health.HEALTHY
            assert {choice.endpoint for choice in routed.choices} <= available
            self.decisions.append(routed)

    @precondition(lambda self: self.decisions)
    @rule(which=WHICH, tokens=st.integers(0, 500))
    def progress(self, which: int, tokens: int) -> None:
        self.router.progress(self.pick(which), self.now, tokens)

    @precondition(lambda self: self.decisions)
    @rule(which=WHICH)
    def retry(self, which: int) -> None:
        decision = self.pick(which)
        before = decision.attempt
        available = {state for state in self.router.fleet if state.available}
        if self.router.retry(decision, self.now):
            assert decision.attempt > before
            assert decision.endpoint in available

    @rule(name=NAMES)
    def upsert(self, name: str) -> None:
        endpoint = Endpoint(name, f"http://{name}", models=("m", "lora"))
        state = self.router.upsert_endpoint(endpoint, self.now)
        if state not in self.states:
            self.states.append(state)

    @rule(name=NAMES)
    def remove(self, name: str) -> None:
        self.router.remove_endpoint(name)

    @rule(name=NAMES, healthy=st.booleans())
    def probe(self, name: str, healthy: bool) -> None:
        self.router.fleet.observe_health(name, healthy, self.now, "probe")

    @rule(name=NAMES)
    def drain(self, name: str) -> None:
        self.router.fleet.drain(name, self.now)

    @rule(name=NAMES)
    def restarted(self, name: str) -> None:
        self.router.restarted(name)

    @invariant()
    def the_ledgers_hold_exactly_what_is_in_flight(self) -> None:
        for state in self.states:
            there = [d for d in self.decisions if d.endpoint is state and d.phase in IN_FLIGHT]
            assert state.ledger.requests == len(there)
            seen = sum(d.phase is Phase.DECODING for d in there)
            unseen = sum(d.phase is not Phase.DECODING and not d.request.streamed for d in there)
            assert seen <= state.ledger.decoding <= seen + unseen

    @invariant()
    def an_endpoint_is_served_exactly_when_it_is_available(self) -> None:
        fleet = self.router.fleet
        assert list(fleet.serving(None)) == [state for state in fleet if state.available]

    @invariant()
    def a_half_open_endpoint_waits_only_for_a_request_in_flight(self) -> None:
        for state in self.router.fleet:
            waits = state.breaker.circuit is Circuit.HALF_OPEN and not state.breaker.admits
            there = (d for d in self.decisions if d.endpoint is state and d.phase in IN_FLIGHT)
            assert not waits or any(there)

    def teardown(self) -> None:
        for number, decision in enumerate(self.decisions):
            if number % 2:
                self.router.abandoned(decision, self.now)
            else:
                self.router.finished(decision, self.now)
            assert decision.outcome is not None
        for state in self.states:
            ledger = state.ledger
            assert ledger.requests == ledger.decoding == 0
            assert ledger.prefill_tokens == ledger.output_tokens == 0


AnyOrder.TestCase.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
TestAnyOrder = AnyOrder.TestCase
