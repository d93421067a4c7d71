"""The pure scaler under any observations: bounds, turns, convergence, totality."""

from itertools import pairwise
from math import inf, nan

from hypothesis import given, settings
from hypothesis import strategies as st

from endpoints.scaling.ceiling import Ceiling
from endpoints.scaling.decision import decide
from endpoints.scaling.memory import Memory
from endpoints.scaling.policies import POLICIES, make_scaling_policy
from endpoints.scaling.role import Role
from endpoints.scaling.settings import Bounds, ScalingSettings
from endpoints.scaling.signals import (
    MISSING,
    Observation,
    Replicas,
    RoleObservation,
    Signal,
    Standing,
)
from tests.support.scalingcluster import Cluster, Truth

Case = tuple[ScalingSettings, list[Observation]]
ABSURD = st.sampled_from([nan, inf, -inf, -1.0, 0.0, 1e-300, 1e300])
NUMBERS = st.floats(0.0, 1e4) | st.floats(0.0, 2.0) | ABSURD
SIGNALS = st.just(MISSING) | st.builds(
    Signal, st.sampled_from([Standing.VALUE, Standing.VALUE, Standing.STALE]), NUMBERS, st.just(0.0)
)
COUNTS = st.integers(0, 30)
REPLICAS = st.builds(
    Replicas,
    COUNTS,
    COUNTS,
    COUNTS,
    COUNTS,
    COUNTS,
    st.none(),
    st.floats(0.0, 1e4),
    st.floats(0.0, 1e4),
)
FIELDS = [
    name for name in RoleObservation.__dataclass_fields__ if name not in {"replicas", "endpoints"}
]
SEEN = st.builds(RoleObservation, REPLICAS, **dict.fromkeys(FIELDS, SIGNALS))
SPLIT = ScalingSettings(
    roles={Role.PREFILL: Bounds(1, 12), Role.DECODE: Bounds(2, 9, costs=2)}, budget=24, idle=600.0
)
WHOLE = ScalingSettings(roles={Role.BOTH: Bounds(2, 15)})


def observations(scaling: ScalingSettings) -> st.SearchStrategy[Observation]:
    return st.builds(
        Observation,
        st.just("pool"),
        st.just(0.0),
        st.fixed_dictionaries(dict.fromkeys(scaling.roles, SEEN)),
        st.integers(0, 50),
        st.floats(0.0, 1e4) | ABSURD,
        st.none() | st.floats(0.0, 2e9),
    )


CASES = st.sampled_from([SPLIT, WHOLE]).flatmap(
    lambda scaling: st.tuples(
        st.just(scaling), st.lists(observations(scaling), min_size=1, max_size=12)
    )
)
STEPS = st.lists(st.floats(-1e5, 1e5) | st.just(15.0), min_size=12, max_size=12)
CEILINGS = st.none() | st.fixed_dictionaries(
    {Role.BOTH: st.builds(Ceiling, COUNTS, COUNTS, st.just("full"))}
)


@given(case=CASES, steps=STEPS, ceiling=CEILINGS)
@settings(max_examples=60, deadline=None)
def test_decisions_stay_within_bounds_budget_and_ceiling(
    case: Case, steps: list[float], ceiling: dict[Role, Ceiling] | None
) -> None:
    scaling, seen = case
    memory, now = Memory(), 0.0
    for observation, step in zip(seen, steps, strict=False):
        now += step
        wanted, memory = decide(observation, scaling, memory, ceiling, now)
        assert wanted.replicas.keys() == scaling.roles.keys()
        if wanted.held is not None:
            continue
        spent = 0
        for role, count in wanted.replicas.items():
            bounds, there = scaling.roles[role], observation.role(role).replicas
            assert count <= bounds.most
            spent += count * bounds.costs
            limit = None if ceiling is None else ceiling.get(role)
            if limit is not None:
                # What others would make room for can be had once it is asked for.
                assert count <= max(limit.now, limit.after_preemption, there.ready)
            elif count < bounds.least:
                assert count == 0  # an idle pool's, or the budget's
                assert scaling.idle is not None
        assert scaling.budget is None or spent <= scaling.budget


@given(case=CASES, name=st.sampled_from(sorted(POLICIES)))
@settings(max_examples=40, deadline=None)
def test_every_policy_decides_about_anything(case: Case, name: str) -> None:
    scaling, seen = case
    policy, memory = make_scaling_policy(name), Memory()
    for number, observation in enumerate(seen):
        wanted, memory = policy.decide(observation, scaling, memory, None, 15.0 * number)
        for role, count in wanted.replicas.items():
            assert wanted.held is not None or count <= scaling.roles[role].most


RATES = st.lists(st.tuples(st.floats(0.0, 60.0), st.integers(1, 40)), min_size=1, max_size=8)


@given(rates=RATES, began=st.integers(1, 20))
@settings(max_examples=12, deadline=None)
def test_turns_are_as_rare_as_the_pace_has_it(rates: list[tuple[float, int]], began: int) -> None:
    scaling = ScalingSettings(roles={Role.BOTH: Bounds(1, 20)}, season=None)
    cluster = Cluster(scaling, Truth()).begin(both=began)
    for rate, steps in rates:
        cluster.truth.rate = rate
        for _ in range(steps):
            cluster.step()
    sizes = cluster.sizes[Role.BOTH]
    changes = [
        (place * scaling.interval, after > before)
        for place, (before, after) in enumerate(pairwise(sizes))
        if before != after
    ]
    for (at, up), (later, then_up) in pairwise(changes):
        if up and not then_up:  # it went up, and then down
            assert later - at >= scaling.down.reversal


@given(
    rate=st.floats(0.0, 80.0),
    seconds=st.floats(0.02, 2.0),
    output=st.floats(1.0, 800.0),
    began=st.integers(1, 20),
    before=st.floats(0.0, 80.0),
)
@settings(max_examples=12, deadline=None)
def test_it_converges_once_conditions_are_constant(
    rate: float, seconds: float, output: float, began: int, before: float
) -> None:
    truth = Truth(
        rate=before, prompt=2_000.0, hit=0.0, prefill_rate=2_000.0 / seconds, output=output
    )
    scaling = ScalingSettings(roles={Role.BOTH: Bounds(1, 20)}, season=None)
    cluster = Cluster(scaling, truth).begin(both=began)
    cluster.run(900.0)
    truth.rate = rate
    cluster.run(3 * 3_600.0)
    size = cluster.target()
    cluster.run(1_800.0)
    assert cluster.target() == size
    assert set(cluster.sizes[Role.BOTH][-100:]) == {size}
