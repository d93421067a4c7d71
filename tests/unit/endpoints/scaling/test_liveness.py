"""Never stuck: each state that could be one, against the pure scaler and a simulated cluster."""

from dataclasses import replace
from math import inf, nan
from typing import Any

import pytest

from endpoints.scaling.ceiling import Ceiling
from endpoints.scaling.memory import Memory
from endpoints.scaling.role import Role
from endpoints.scaling.settings import Bounds, Objective, ScalingSettings
from endpoints.scaling.signals import MISSING, RoleObservation, Signal, Standing
from tests.support.scalingcluster import Cluster, Pod, Truth, blind, turns, without_scrapes

HOUR = 3_600.0
SPLIT = {Role.PREFILL: Bounds(1, 20), Role.DECODE: Bounds(1, 20)}


def pool(**changes: Any) -> ScalingSettings:
    return ScalingSettings(**{"roles": {Role.BOTH: Bounds(1, 20)}, "season": None, **changes})


def settled(cluster: Cluster) -> int:
    """The size that it keeps: run on and see that nothing moves."""
    size = cluster.target()
    cluster.run(HOUR)
    assert cluster.target() == size
    return size


def test_zero_traffic_from_start() -> None:
    cluster = Cluster(pool(idle=600.0), Truth(rate=0.0)).begin(both=3)
    cluster.run(HOUR)
    assert cluster.target() == 0
    kept = Cluster(pool(), Truth(rate=0.0)).begin(both=3)
    kept.run(2 * HOUR)
    assert 1 <= kept.target() <= 3  # nothing is known of it, so at most what it was


def test_traffic_that_stops() -> None:
    cluster = Cluster(pool(idle=900.0), Truth(rate=12.0)).begin(both=4)
    cluster.run(HOUR)
    busy = cluster.target()
    assert busy >= 4
    cluster.truth.rate = 0.0
    cluster.run(HOUR)
    assert cluster.target() == 0
    cluster.truth.rate = 12.0
    cluster.run(HOUR)
    assert cluster.target() >= 4
    assert cluster.held == 0


def test_empty_pool_wakes_for_the_first_request() -> None:
    cluster = Cluster(pool(idle=300.0), Truth(rate=0.0)).begin(both=0)
    cluster.run(HOUR)
    assert cluster.target() == 0
    cluster.truth.rate = 1.0
    cluster.run(60.0)
    assert cluster.target() >= 1
    assert any(
        bound.name == "activation" for one in cluster.decisions for bound in one.receipt.bounds
    )
    cluster.run(600.0)
    assert cluster.ready(Role.BOTH) >= 1


def test_both_roles_wake_together() -> None:
    cluster = Cluster(pool(roles=SPLIT, idle=300.0), Truth(rate=2.0)).begin(prefill=0, decode=0)
    cluster.run(30.0)
    assert cluster.target(Role.PREFILL) >= 1
    assert cluster.target(Role.DECODE) >= 1


def test_metrics_missing_from_all_pods() -> None:
    cluster = Cluster(pool(), Truth(rate=12.0)).begin(both=4)
    cluster.run(HOUR)
    size = settled(cluster)
    cluster.distort = blind
    cluster.run(HOUR)
    assert cluster.target() == size  # unknown is not idle
    assert cluster.last.held is not None
    cluster.distort = lambda seen: seen
    cluster.truth.rate = 24.0
    cluster.run(HOUR)
    assert cluster.target() > size


def test_scrapes_missing_from_all_pods() -> None:
    cluster = Cluster(pool(), Truth(rate=12.0), distort=without_scrapes).begin(both=4)
    cluster.run(HOUR)
    size = cluster.target()
    cluster.truth.rate = 24.0
    cluster.run(HOUR)
    assert cluster.target() > size  # its own books go on
    cluster.truth.rate = 4.0
    cluster.run(2 * HOUR)
    assert cluster.target() < size


def test_metrics_missing_from_half_of_the_pods() -> None:
    whole = Cluster(pool(), Truth(rate=12.0)).begin(both=8)
    half = Cluster(pool(), Truth(rate=12.0), reporting=0.5).begin(both=8)
    whole.run(2 * HOUR)
    half.run(2 * HOUR)
    assert half.target() >= whole.target()
    half.truth.rate = 30.0
    half.run(HOUR)
    assert half.target() > whole.target()


def test_a_pod_pending_forever() -> None:
    cluster = Cluster(pool(), Truth(rate=40.0), room=5).begin(both=4)
    cluster.run(2 * HOUR)
    asked = cluster.target()
    cluster.run(2 * HOUR)
    assert cluster.target() == asked  # it does not go on asking
    assert "pending" in " ".join(bound.name for bound in cluster.last.receipt.bounds)
    cluster.room = 100
    cluster.run(2 * HOUR)
    assert cluster.ready(Role.BOTH) >= 13
    cluster.truth.rate = 4.0
    cluster.run(3 * HOUR)
    assert cluster.target() <= 6


def test_a_pod_crash_looping() -> None:
    sick: list[Pod] = []

    def crash(pod: Pod) -> bool:
        if not sick and pod.born > 0:
            sick.append(pod)
        return bool(sick) and pod is sick[0]

    cluster = Cluster(pool(), Truth(rate=14.0), crash=crash).begin(both=4)
    cluster.run(2 * HOUR)
    healthy = Cluster(pool(), Truth(rate=14.0)).begin(both=4)
    healthy.run(2 * HOUR)
    assert cluster.ready(Role.BOTH) >= healthy.ready(Role.BOTH) - 1  # another takes its place
    assert cluster.target() <= healthy.target() + 2


def test_every_new_pod_crash_looping() -> None:
    cluster = Cluster(pool(), Truth(rate=40.0), crash=lambda pod: pod.born > 0).begin(both=4)
    cluster.run(3 * HOUR)
    asked = cluster.target()
    cluster.run(3 * HOUR)
    assert cluster.target() == asked <= 20


def test_a_user_edits_replicas() -> None:
    cluster = Cluster(pool(edit_hold=900.0), Truth(rate=12.0)).begin(both=4)
    cluster.run(HOUR)
    size = cluster.target()
    cluster.targets[Role.BOTH] = 15
    cluster.run(800.0)
    assert cluster.target() == 15
    assert "somebody else set both to 15" in (cluster.last.held or "")
    cluster.run(2 * HOUR)
    assert cluster.target() == pytest.approx(size, abs=3)


def test_another_controller_fights() -> None:
    cluster = Cluster(pool(edit_hold=600.0), Truth(rate=24.0)).begin(both=4)
    cluster.run(HOUR)
    before = cluster.written
    for turn in range(30):
        cluster.targets[Role.BOTH] = 2 + turn % 2
        cluster.run(120.0)
    assert cluster.written == before  # nobody answers blow by blow
    assert "keeps changing" in (cluster.last.held or "")
    cluster.run(2 * HOUR)  # the other one has gone
    assert cluster.target() >= 7


def test_budget_too_small_for_both_roles() -> None:
    cluster = Cluster(pool(roles=SPLIT, budget=3), Truth(rate=60.0)).begin(prefill=1, decode=1)
    cluster.run(HOUR)
    assert cluster.target(Role.PREFILL) + cluster.target(Role.DECODE) == 3
    assert min(cluster.targets.values()) >= 1
    assert {bound.name for bound in cluster.last.receipt.bounds} & {"budget"}
    poor = Cluster(pool(roles=SPLIT, budget=1), Truth(rate=60.0)).begin(prefill=1, decode=1)
    poor.run(HOUR)
    assert "does not pay for" in (poor.last.held or "")
    assert poor.targets == {Role.PREFILL: 1, Role.DECODE: 1}


def test_objective_infeasible_at_any_size() -> None:
    cluster = Cluster(pool(objective=Objective(ttft=0.05)), Truth(rate=12.0)).begin(both=4)
    cluster.run(2 * HOUR)
    size = settled(cluster)
    assert size < 16  # more would not help, so no more are bought
    assert "can't be met at any size" in " ".join(
        one.reason for one in cluster.last.receipt.candidates
    )


@pytest.mark.parametrize("absurd", [nan, inf, -inf, -5.0, 1e30])
def test_nan_and_absurd_values(absurd: float) -> None:
    def distort(seen: RoleObservation) -> RoleObservation:
        wrong = Signal(Standing.VALUE, absurd, seen.arrival_rate.at)
        return replace(
            seen,
            arrival_rate=wrong,
            kv_usage=wrong,
            queued_tokens=wrong,
            ttft=wrong,
            own_tokens=wrong,
            prefill_rate=wrong,
            itl_base=wrong,
            itl_tail=wrong,
            output_tokens=wrong,
        )

    cluster = Cluster(pool(), Truth(rate=12.0)).begin(both=4)
    cluster.run(HOUR)
    size = cluster.target()
    cluster.distort = distort
    cluster.run(HOUR)
    assert 1 <= cluster.target() <= 20
    cluster.distort = lambda seen: seen
    cluster.run(2 * HOUR)
    assert cluster.target() == pytest.approx(size, abs=2)


def test_restart_of_the_controller_mid_scale() -> None:
    cluster = Cluster(pool(), Truth(rate=40.0)).begin(both=4)
    cluster.run(60.0)
    going_up = cluster.target()
    assert going_up > 4
    cluster.memory = Memory()
    cluster.run(30.0)
    assert cluster.target() >= going_up  # what is coming is counted, not forgotten
    cluster.run(2 * HOUR)
    assert turns(cluster.sizes[Role.BOTH]) <= 2


def test_leader_lost_mid_scale() -> None:
    cluster = Cluster(pool(), Truth(rate=40.0)).begin(both=4)
    cluster.run(45.0)
    old = cluster.memory
    cluster.leading = False
    cluster.run(300.0)
    asked = cluster.target()
    cluster.leading, cluster.memory = True, Memory()  # another one leads
    cluster.run(HOUR)
    assert cluster.target() >= asked
    cluster.memory = old  # the first one leads again, with what it remembers
    cluster.run(HOUR)
    assert cluster.last.held is None
    assert cluster.target() >= asked


def test_api_server_away_for_ten_minutes() -> None:
    cluster = Cluster(pool(), Truth(rate=4.0)).begin(both=2)
    cluster.run(HOUR)
    cluster.away = True
    cluster.truth.rate = 24.0
    cluster.run(600.0)
    size = cluster.target()
    assert cluster.last.replicas[Role.BOTH] > size  # it knows, and can't
    cluster.away = False
    cluster.run(60.0)
    assert cluster.target() > size
    cluster.run(HOUR)
    assert cluster.ready(Role.BOTH) >= 7


@pytest.mark.parametrize("jump", [-86_400.0, -200.0, 3_600.0, 1e7])
def test_clock_jumps(jump: float) -> None:
    cluster = Cluster(pool(), Truth(rate=12.0)).begin(both=4)
    cluster.run(HOUR)
    size = cluster.target()
    cluster.clock += jump
    cluster.run(120.0)
    assert cluster.target() == pytest.approx(size, abs=2)
    cluster.truth.rate = 24.0
    cluster.run(HOUR)
    assert cluster.target() > size
    cluster.truth.rate = 4.0
    cluster.run(2 * HOUR)
    assert cluster.target() < size


def test_partial_rebalance() -> None:
    cluster = Cluster(pool(roles=SPLIT), Truth(rate=8.0)).begin(prefill=2, decode=2)
    cluster.run(HOUR)
    both = dict(cluster.targets)
    cluster.truth.rate = 40.0
    stuck = cluster.targets[Role.DECODE]
    for _ in range(20):  # decode's writes get lost
        cluster.step()
        cluster.targets[Role.DECODE] = stuck
    cluster.run(HOUR)
    assert cluster.target(Role.PREFILL) > both[Role.PREFILL]
    assert cluster.target(Role.DECODE) > both[Role.DECODE]


def test_rolling_update_of_the_pool() -> None:
    cluster = Cluster(pool(), Truth(rate=12.0)).begin(both=5)
    cluster.run(HOUR)
    size = cluster.target()
    for _ in range(size):  # one after another is replaced by a new one
        cluster.pods.remove(min(cluster.pods, key=lambda pod: pod.born))
        cluster.run(180.0)
    assert cluster.target() <= size + 2
    cluster.run(2 * HOUR)
    assert cluster.target() == pytest.approx(size, abs=2)


def test_a_model_swapped_for_a_slower_one() -> None:
    cluster = Cluster(pool(), Truth(rate=12.0)).begin(both=4)
    cluster.run(HOUR)
    size = cluster.target()
    cluster.truth.prefill_rate /= 2.0
    cluster.truth.itl_base *= 1.5
    cluster.run(2 * HOUR)
    assert cluster.target() > size
    assert cluster.backlog == 0.0


def test_devices_run_out() -> None:
    ceiling = {Role.BOTH: Ceiling(5, 5, "no more H100 are free")}
    cluster = Cluster(pool(), Truth(rate=40.0), ceiling=ceiling).begin(both=4)
    cluster.run(HOUR)
    assert cluster.target() == 5
    assert cluster.last.needs[Role.BOTH] > 5
    told = cluster.last.receipt
    assert told.bound_by(Role.BOTH) == "ceiling"
    assert "no more H100 are free" in told.bounds[-1].reason
    cluster.ceiling = None
    cluster.run(HOUR)
    assert cluster.target() > 5


def test_what_others_would_give_up_is_asked_for_as_nobody_gives_it_up_unasked() -> None:
    ceiling = {Role.BOTH: Ceiling(5, 6, "no more H100 are free")}
    cluster = Cluster(pool(), Truth(rate=40.0), ceiling=ceiling).begin(both=4)
    cluster.run(HOUR)
    assert cluster.target() == 6
    assert "no more than 6 can run, 5 of them now" in cluster.last.receipt.bounds[-1].reason


def test_one_side_of_a_split_pool_gets_no_devices() -> None:
    ceiling = {Role.DECODE: Ceiling(2, 2, "none")}
    cluster = Cluster(pool(roles=SPLIT), Truth(rate=60.0, output=800.0), ceiling=ceiling)
    cluster.begin(prefill=1, decode=2).run(HOUR)
    assert cluster.target(Role.DECODE) == 2
    free = Cluster(pool(roles=SPLIT), Truth(rate=60.0, output=800.0)).begin(prefill=1, decode=2)
    free.run(HOUR)
    assert cluster.target(Role.PREFILL) < free.target(Role.PREFILL)  # not prefill alone


def test_stale_signals_hold() -> None:
    def aged(seen: RoleObservation) -> RoleObservation:
        return replace(
            seen,
            arrival_rate=Signal(Standing.STALE, 0.0, seen.arrival_rate.at - 600.0),
            queued_tokens=MISSING,
            waiting=MISSING,
            kv_usage=MISSING,
            ttft=MISSING,
            itl=MISSING,
        )

    cluster = Cluster(pool(), Truth(rate=12.0)).begin(both=5)
    cluster.run(HOUR)
    size = cluster.target()
    cluster.distort = aged
    cluster.run(2 * HOUR)
    assert cluster.target() == size
