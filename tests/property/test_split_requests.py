"""Two halves of a request, reports in any order: nothing leaks, nothing is given back twice."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from routing.breaker import Circuit
from routing.decision import Decision, Phase
from routing.disaggregation import MODES, SPLIT, DisaggregationSettings
from routing.fleet import Endpoint, EndpointState, Fleet
from routing.legs import LegPhase, PrefillLeg
from routing.policies import make_policy
from routing.prefix.chain import text_chain
from routing.prefix.index import PrefixIndex
from routing.request import Request
from routing.router import Router, RouterSettings
from tests.support.reports import COUNTS, WHICH, Reports

ROLES = {"a": "prefill", "b": "decode", "c": "both", "d": "both", "e": None}
NAMES = st.sampled_from(sorted(ROLES))
IN_FLIGHT = {Phase.ROUTED, Phase.SENT, Phase.DECODING}


class AnyOrder(Reports):
    def __init__(self) -> None:
        super().__init__()
        self.legs: list[PrefillLeg] = []  # all that ever were
        self.states: list[EndpointState] = []

    @initialize(mode=st.sampled_from(MODES), policy=st.sampled_from(["predicted_time", "chwbl"]))
    def begin(self, mode: str, policy: str) -> None:
        self.router = Router(
            Fleet(),
            PrefixIndex(40_000),
            make_policy(policy),
            RouterSettings(
                default_cache_tokens=20_000,
                disaggregation=DisaggregationSettings(
                    mode=mode, threshold_tokens=128.0, dynamo_local_tokens=128.0, fewest_tokens=0.0
                ),
            ),
        )
        for name in ROLES:
            self.upsert(name)
            self.router.fleet.observe_health(name, True, self.now, "ok")

    def saw(self, leg: PrefillLeg | None) -> None:
        if leg is not None and leg not in self.legs:
            self.legs.append(leg)

    @rule(seconds=st.floats(0, 3))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(
        prompt=st.text("xy", min_size=1, max_size=12),
        streamed=st.booleans(),
        most=st.none() | st.integers(1, 3),
    )
    def route(self, prompt: str, streamed: bool, most: int | None) -> None:
        text = "".join(letter * 256 for letter in prompt).encode()
        request = Request(
            "r",
            "m",
            (text_chain(b"", text),),
            len(text) / 4,
            streamed=streamed,
            max_output_tokens=most,
        )
        self.router.fleet.tick(self.now)
        available = {state for state in self.router.fleet if state.available}
        routed = self.router.route(request, self.now)
        if not isinstance(routed, Decision):
            return
        self.decisions.append(routed)
        assert all(choice.endpoint.endpoint.decodes for choice in routed.choices)
        assert len({choice.endpoint for choice in routed.choices}) == len(routed.choices)
        leg = routed.prefill
        assert (leg is not None) == (routed.split_reason in SPLIT)
        if leg is not None:
            self.saw(leg)
            assert leg.endpoint in available
            assert leg.endpoint.endpoint.prefills
            assert leg.endpoint is not routed.endpoint
            assert leg.uncached_tokens >= 0.0
            assert leg.seconds >= 0.0
            assert leg.transfer_seconds >= 0.0

    @precondition(lambda self: self.decisions)
    @rule(which=WHICH)
    def retry(self, which: int) -> None:
        if self.router.retry(self.pick(which), self.now):
            assert not self.pick(which).split

    @precondition(lambda self: self.decisions)
    @rule(which=WHICH)
    def prefill_sent(self, which: int) -> None:
        self.router.prefill_sent(self.pick(which), self.now)

    @precondition(lambda self: self.decisions)
    @rule(which=WHICH, prompt=COUNTS, cached=COUNTS)
    def prefill_done(self, which: int, prompt: int | None, cached: int | None) -> None:
        self.router.prefill_done(self.pick(which), self.now, prompt, cached)

    @precondition(lambda self: self.decisions)
    @rule(which=WHICH, refused=st.booleans(), blameless=st.booleans())
    def prefill_failed(self, which: int, refused: bool, blameless: bool) -> None:
        self.router.prefill_failed(
            self.pick(which), self.now, "reset", refused=refused, blameless=blameless
        )

    @precondition(lambda self: self.decisions)
    @rule(which=WHICH)
    def prefill_skipped(self, which: int) -> None:
        self.router.prefill_skipped(self.pick(which), self.now, "slow")

    @precondition(lambda self: self.decisions)
    @rule(which=WHICH)
    def replan(self, which: int) -> None:
        decision, before = self.pick(which), self.pick(which).prefill
        if self.router.replan_prefill(decision, self.now):
            self.saw(decision.prefill)
            assert decision.prefill is not None
            assert decision.prefill is not before
            assert decision.prefill.endpoint is not decision.endpoint
            assert decision.split

    @precondition(lambda self: self.decisions)
    @rule(which=WHICH, lease=st.floats(0, 5))
    def stranded(self, which: int, lease: float) -> None:
        self.router.stranded(self.pick(which), self.now, self.now + lease)

    @precondition(lambda self: self.decisions)
    @rule(which=WHICH, amount=st.floats(0, 1e9), seconds=st.floats(0, 9))
    def transferred(self, which: int, amount: float, seconds: float) -> None:
        self.router.transferred(self.pick(which), self.now, amount, seconds)

    @rule(name=NAMES)
    def upsert(self, name: str) -> None:
        role = ROLES[name]
        labels = () if role is None else (("role", role),)
        state = self.router.upsert_endpoint(
            Endpoint(name, f"http://{name}", models=("m",), labels=labels), self.now
        )
        if state not in self.states:
            self.states.append(state)

    @rule(name=NAMES)
    def remove(self, name: str) -> None:
        self.router.remove_endpoint(name)

    @rule(name=NAMES, healthy=st.booleans())
    def probe(self, name: str, healthy: bool) -> None:
        self.router.fleet.observe_health(name, healthy, self.now, "probe")

    @rule(name=NAMES)
    def restarted(self, name: str) -> None:
        self.router.restarted(name)

    @invariant()
    def the_ledgers_hold_what_is_in_flight(self) -> None:
        for state in self.states:
            there = [d for d in self.decisions if d.endpoint is state and d.phase in IN_FLIGHT]
            legs = [one for one in self.legs if one.endpoint is state and one.in_flight]
            assert len(there) <= state.ledger.requests <= len(there) + len(legs)
            assert state.ledger.prefill_tokens >= 0
            awaiting = [d for d in there if d.split and d.phase is not Phase.DECODING]
            assert state.ledger.awaiting <= len(awaiting)

    @invariant()
    def legs_run_only_for_decisions_in_flight(self) -> None:
        for decision in self.decisions:
            leg = decision.prefill
            if leg is not None and leg.in_flight:
                assert decision.phase in IN_FLIGHT

    @invariant()
    def a_half_open_endpoint_waits_only_for_a_request_in_flight(self) -> None:
        for state in self.router.fleet:
            waits = state.breaker.circuit is Circuit.HALF_OPEN and not state.breaker.admits
            there = any(d.endpoint is state and d.phase in IN_FLIGHT for d in self.decisions)
            there |= any(one.endpoint is state and one.in_flight for one in self.legs)
            assert not waits or there

    def teardown(self) -> None:
        for number, decision in enumerate(self.decisions):
            if number % 3 == 0:
                self.router.abandoned(decision, self.now)
            elif number % 3 == 1:
                self.router.failed(decision, self.now, "reset")
            else:
                self.router.finished(decision, self.now)
            assert decision.outcome is not None
        for state in self.states:
            ledger = state.ledger
            assert ledger.requests == ledger.decoding == ledger.awaiting == 0
            assert ledger.prefill_tokens == ledger.output_tokens == ledger.context_tokens == 0
        assert all(leg.phase is not LegPhase.SENT for leg in self.legs)
        if self.decisions:
            assert self.router.prefilling.stranded_now(self.now + 9.0) == 0


AnyOrder.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAnyOrder = AnyOrder.TestCase
