"""The loop gets where it should, one careful step after the other, and never stays stuck."""

from dataclasses import replace

import pytest

from endpoints.scaling.actuators.actuator import Phase
from endpoints.scaling.controller import Controller
from endpoints.scaling.role import Role
from endpoints.scaling.settings import Bounds, ScalingSettings
from tests.support.scaletargets import MemoryTarget, Plain, Scene


def journal(scene: Scene) -> str:
    return "\n".join(entry.what for entry in scene.controller.journal)


async def test_more_are_asked_for_at_once() -> None:
    scene = Scene(2)
    scene.wish = 5
    await scene.go(1.0)
    assert scene.target.writes == [5]
    assert len(scene.names) == 5
    await scene.go(30.0)
    assert scene.target.writes == [5]


async def test_fewer_drain_first_and_only_those_chosen_end() -> None:
    scene = Scene(4)
    await scene.go(1.0)
    busy = scene.router.fleet.get("m2")
    assert busy is not None
    busy.ledger.reserve("request", 10, 10_000, scene.now)
    scene.wish = 2
    await scene.go(5.5)
    assert "m2" not in scene.target.announced  # its work would take long to end
    await scene.go(5.0)
    assert len(scene.target.members) == 2
    assert "m2" in scene.names
    assert scene.target.writes[-1] == 2
    assert scene.controller.roles[Role.BOTH].shrinking.ended == 2
    assert scene.controller.roles[Role.BOTH].changes["down"] in {1, 2}
    assert not scene.controller.roles[Role.BOTH].shrinking.going


async def test_a_victim_is_not_ended_before_its_requests_have() -> None:
    scene = Scene(2)
    for name in ("m1", "m2"):
        state = scene.router.fleet.get(name)
        assert state is not None
        state.ledger.reserve("r", 10, 10, 0.0)
    scene.wish = 1
    await scene.go(12.0)
    assert scene.target.writes == []
    (victim,) = scene.controller.roles[Role.BOTH].shrinking.draining
    assert victim not in scene.names
    assert scene.replicas.target == 1  # what drains is given up already
    assert scene.replicas.draining == 1
    state = scene.router.fleet.get(victim)
    assert state is not None
    state.ledger.release("r", scene.now)
    await scene.go(3.0)
    assert scene.target.writes == [1]
    assert scene.controller.roles[Role.BOTH].shrinking.cut == 0


async def test_after_the_grace_period_it_is_ended_with_what_is_left() -> None:
    scene = Scene(1)
    state = scene.router.fleet.get("m1")
    assert state is not None
    state.ledger.reserve("r", 10, 10, 0.0)
    scene.wish = 0
    await scene.go(25.0)
    assert scene.target.writes == [0]
    assert scene.controller.roles[Role.BOTH].shrinking.cut == 1


async def test_who_drains_is_taken_back_when_the_wind_turns() -> None:
    scene = Scene(3)
    for name in ("m1", "m2", "m3"):
        state = scene.router.fleet.get(name)
        assert state is not None
        state.ledger.reserve("r", 10, 10, 0.0)
    scene.wish = 1
    await scene.go(1.0)
    assert len(scene.names) == 1
    scene.wish = 4
    await scene.go(6.0)
    assert scene.target.announced == []
    assert scene.target.writes == [4]
    assert len(scene.names) == 4


async def test_whose_target_it_is_decides_and_the_loop_holds() -> None:
    scene = Scene(3)
    scene.wish = 1
    scene.target.owner = "HorizontalPodAutoscaler theirs"
    await scene.go(20.0)
    assert scene.target.writes == []
    assert len(scene.names) == 3
    assert scene.controller.roles[Role.BOTH].conflict == scene.target.owner
    assert journal(scene).count("theirs scales") == 1  # said once
    scene.target.owner = None
    await scene.go(20.0)
    assert scene.target.writes[-1] == 1


async def test_an_hpa_that_comes_in_the_middle_gives_the_victims_back() -> None:
    scene = Scene(3)
    for state in scene.router.fleet:
        state.ledger.reserve("r", 10, 10, 0.0)
    scene.wish = 1
    await scene.go(1.0)
    scene.target.owner = "HorizontalPodAutoscaler theirs"
    await scene.go(6.0)
    assert len(scene.names) == 3
    assert scene.target.writes == []


async def test_held_means_held() -> None:
    scene = Scene(3)
    scene.wish, scene.held = 1, "somebody else set it"
    await scene.go(20.0)
    assert scene.target.writes == []
    assert len(scene.names) == 3


async def test_an_api_server_that_is_away_costs_no_endpoint() -> None:
    scene = Scene(3)
    scene.wish = 1
    await scene.go(1.0)
    scene.target.away = "no answer"
    await scene.go(600.0)
    assert len(scene.names) == 3  # drained in vain: they serve again
    assert scene.seen[-1].roles[Role.BOTH].replicas.target is None
    scene.target.away = None
    await scene.go(20.0)
    assert scene.target.replicas == 1


async def test_a_number_changed_meanwhile_is_looked_at_again() -> None:
    scene = Scene(2)
    await scene.go(1.0)
    scene.wish = 4
    scene.target.version += 1  # between look and write there is nothing here: it works
    await scene.go(6.0)
    assert scene.target.writes == [4]


async def test_a_leader_lost_in_the_middle_writes_nothing_more_and_another_goes_on() -> None:
    target = MemoryTarget(4)
    first, second = Scene(4, target=target), Scene(4, target=target)
    first.wish = second.wish = 2
    second.lead = False
    for state in first.router.fleet:
        state.ledger.reserve("r", 10, 10, 0.0)
    await first.go(1.0)
    assert len(target.announced) == 2
    await second.go(1.5)
    assert len(second.names) == 2  # it follows: what is announced gets nothing new there either
    first.lead, second.lead = False, True
    await first.go(30.0)
    assert target.writes == []
    await second.go(30.0)
    assert target.writes[-1] == 2
    assert "leads no longer" in journal(first)
    assert len(second.names) == 2


async def test_a_follower_takes_back_whom_the_leader_takes_back() -> None:
    scene = Scene(3)
    scene.lead = False
    scene.target.announced = ["m2"]
    await scene.go(2.0)
    assert scene.names == ["m1", "m3"]
    scene.target.announced = []
    await scene.go(2.0)
    assert sorted(scene.names) == ["m1", "m2", "m3"]


async def test_a_member_that_goes_by_itself_is_not_waited_for() -> None:
    scene = Scene(3)
    for state in scene.router.fleet:
        state.ledger.reserve("r", 10, 10, 0.0)
    scene.wish = 2
    await scene.go(1.0)
    (victim,) = scene.controller.roles[Role.BOTH].shrinking.draining
    gone = next(member for member in scene.target.members if member.name == victim)
    scene.target.members.remove(gone)  # its node died; a new one comes at once
    await scene.go(12.0)
    assert victim not in scene.names
    assert scene.target.replicas in {2, 3}
    for state in scene.router.fleet:
        state.ledger.release("r", scene.now)
    await scene.go(30.0)
    assert scene.target.replicas == 2


async def test_vacant_places_go_without_draining_anybody() -> None:
    scene = Scene(2)
    scene.target.replicas = 5  # three are asked for, and nobody has made them yet
    scene.wish = 2
    await scene.controller.turn()
    assert scene.target.writes == [2]
    assert len(scene.names) == 2


async def test_pending_and_failing_members_are_counted_as_such() -> None:
    scene = Scene(4)
    members = scene.target.members
    members[0] = replace(members[0], phase=Phase.PENDING)
    members[1] = replace(members[1], phase=Phase.FAILING)
    scene.router.fleet.observe_health("m3", False, 0.0, "down")
    scene.now = 7.0
    await scene.controller.turn()
    seen = scene.replicas
    assert (seen.ready, seen.starting, seen.pending, seen.failing) == (1, 1, 1, 1)
    assert (seen.oldest_pending, seen.oldest_starting, seen.target) == (7.0, 7.0, 4)


async def test_a_dry_run_changes_nothing() -> None:
    scene = Scene(3)
    scene.controller.dry_run = True
    scene.wish = 1
    await scene.go(20.0)
    assert scene.target.writes == []
    assert len(scene.names) == 3
    assert scene.controller.wanted is not None
    assert scene.controller.wanted.replicas == {Role.BOTH: 1}


async def test_from_zero_and_back() -> None:
    scene = Scene(0)
    assert scene.names == []
    scene.wish = 1
    scene.controller.wake()
    await scene.go(0.5)
    assert scene.names == ["m1"]
    scene.wish = 0
    await scene.go(20.0)
    assert scene.names == []
    assert scene.target.writes == [1, 0]


def test_every_role_needs_its_target() -> None:
    scene = Scene(1)
    both = {Role.PREFILL: Bounds(), Role.DECODE: Bounds()}
    with pytest.raises(ValueError, match="decode, prefill"):
        Controller(
            "pool",
            ScalingSettings(roles=both),
            {Role.PREFILL: scene.target},
            Plain(),
            router=scene.router,
            keeper=scene.keeper,
            clock=lambda: 0.0,
        )
