"""When an endpoint has room."""

from routing.admission.entry import LaneKey
from routing.admission.room import has_room
from routing.endpoint import Load
from routing.fleet import Endpoint, Fleet, ServedModel

ANY = LaneKey(None, None)


def fleet_of(*names: str) -> Fleet:
    fleet = Fleet()
    for name in names:
        fleet.upsert(Endpoint(name, f"http://{name}"), 0.0)
        fleet.observe_models(name, [ServedModel("m")], 0.0)
        fleet.observe_health(name, True, 0.0, "test")
    return fleet


def busy(fleet: Fleet, name: str, seconds: float, now: float = 0.0) -> str:
    """Reserve a prompt that takes so long there; the key to release it by."""
    state = fleet.get(name)
    assert state is not None
    tokens = round(seconds / state.timing.prefill.slope)
    key = f"{name} {seconds}"
    state.ledger.reserve(
        key, tokens, 10, now, prefilled_at=float("inf"), prompt_tokens=tokens, prefill_context=0
    )
    return key


def test_an_idle_endpoint_has_room_and_nobody_has_none() -> None:
    assert has_room(fleet_of("a"), ANY, 0.0, 1.0)
    assert has_room(fleet_of(), ANY, 0.0, 1.0) is None
    assert has_room(fleet_of("a"), LaneKey("unknown", None), 0.0, 1.0) is None


def test_one_with_room_is_enough_and_time_makes_room() -> None:
    fleet = fleet_of("a", "b")
    busy(fleet, "a", 5.0)
    assert has_room(fleet, ANY, 0.0, 1.0)
    busy(fleet, "b", 3.0)
    assert has_room(fleet, ANY, 0.0, 1.0) is False
    assert has_room(fleet, ANY, 2.5, 1.0)


def test_a_subset_is_looked_at_by_itself() -> None:
    fleet = fleet_of("a", "b")
    busy(fleet, "a", 5.0)
    assert has_room(fleet, LaneKey("m", frozenset({"a"})), 0.0, 1.0) is False
    assert has_room(fleet, LaneKey("m", frozenset({"a", "b"})), 0.0, 1.0)
    assert has_room(fleet, LaneKey("m", frozenset({"gone"})), 0.0, 1.0) is None


def test_what_waits_in_the_engine_counts_while_it_is_fresh() -> None:
    fleet = fleet_of("a")
    fleet.observe_load("a", Load(at=0.0, waiting=4))
    assert has_room(fleet, ANY, 0.0, 10.0)
    fleet.observe_load("a", Load(at=0.0, waiting=5))
    assert has_room(fleet, ANY, 0.0, 10.0) is False
    assert has_room(fleet, ANY, 100.0, 10.0)  # nobody knows any more


def test_a_bound_on_requests_counts() -> None:
    fleet = fleet_of("a")
    key = busy(fleet, "a", 0.001)
    assert has_room(fleet, ANY, 0.0, 10.0, most_requests=2)
    assert has_room(fleet, ANY, 0.0, 10.0, most_requests=1) is False
    state = fleet.get("a")
    assert state is not None
    state.ledger.release(key, 0.0)
    assert has_room(fleet, ANY, 0.0, 10.0, most_requests=1)
