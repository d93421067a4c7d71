"""Loops of several pools that share their starts."""

from endpoints.scaling.decision import Wanted
from endpoints.scaling.receipt import Receipt
from endpoints.scaling.role import Role
from endpoints.scaling.signals import Observation, Replicas, RoleObservation
from endpoints.scaling.starts import Starts

BOTH = Role.BOTH


def wanted(pool: str, count: int, held: str | None = None) -> Wanted:
    return Wanted(pool, 0.0, {BOTH: count}, Receipt(pool, 0.0, (), (), (), (), ""), held)


def seen(pool: str, ready: int, starting: int = 0) -> Observation:
    replicas = Replicas(ready=ready, starting=starting, target=ready + starting)
    return Observation(pool, 0.0, {BOTH: RoleObservation(replicas=replicas)})


def test_what_is_granted_to_one_is_not_granted_to_another() -> None:
    starts = Starts(3)
    first = starts.share(wanted("a", 4), seen("a", 0), 0.0)
    assert first.replicas == {BOTH: 3}
    assert first.receipt.bound_by(BOTH) == "most_starting"
    second = starts.share(wanted("b", 4), seen("b", 0), 5.0)
    assert second.replicas == {BOTH: 2}  # it waits longer: its turn comes first
    assert starts.share(wanted("a", 4), seen("a", 0, starting=3), 0.0).replicas == {BOTH: 3}
    assert starts.share(wanted("a", 4), seen("a", 3), 0.0).replicas == {BOTH: 4}


def test_who_shrinks_or_is_held_takes_no_turn() -> None:
    starts = Starts(1)
    assert starts.share(wanted("a", 1), seen("a", 4), 0.0).replicas == {BOTH: 1}
    held = wanted("a", 4, "somebody else scales it")
    assert starts.share(held, seen("a", 0), 0.0) is held


def test_a_pool_that_left_asks_for_nothing() -> None:
    starts = Starts(1)
    starts.share(wanted("a", 4), seen("a", 0), 9.0)
    assert starts.share(wanted("b", 4), seen("b", 0), 0.0).replicas == {BOTH: 0}
    starts.left("a")
    assert starts.share(wanted("b", 4), seen("b", 0), 0.0).replicas == {BOTH: 1}
