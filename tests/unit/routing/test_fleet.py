import pytest

from routing.breaker import Circuit
from routing.fleet import Endpoint, EndpointState, Fleet, Health, Load, ServedModel


def fleet_of(*names: str, models: tuple[str, ...] | None = ("m",)) -> Fleet:
    fleet = Fleet()
    for name in names:
        fleet.upsert(Endpoint(name, f"http://{name}", models=models), 0.0)
        fleet.observe_health(name, True, 0.0, "probe answered")
    return fleet


def state_of(fleet: Fleet, name: str) -> EndpointState:
    state = fleet.get(name)
    assert state is not None
    return state


def names(states: object) -> list[str]:
    assert isinstance(states, list | tuple)
    return [state.name for state in states]


def test_an_endpoint_serves_only_once_it_is_healthy() -> None:
    fleet = Fleet()
    state = fleet.upsert(Endpoint("a", "http://a", models=("m",)), 1.0)
    assert state.health is Health.UNKNOWN
    assert names(fleet.serving("m")) == []
    fleet.observe_health("a", True, 2.0, "probe answered")
    assert names(fleet.serving("m")) == ["a"]
    assert (state.health_since, state.health_reason) == (2.0, "probe answered")
    fleet.observe_health("a", False, 3.0, "time-out")
    assert names(fleet.serving("m")) == []


def test_serving_follows_models_health_and_membership() -> None:
    fleet = fleet_of("a", "b", models=None)
    assert names(fleet.serving(None)) == ["a", "b"]
    assert names(fleet.serving("m")) == []
    fleet.observe_models("b", [ServedModel("m"), ServedModel("lora", base="m")], 1.0)
    assert names(fleet.serving("lora")) == ["b"]
    fleet.observe_models("a", [ServedModel("m")], 1.0)
    assert names(fleet.serving("m")) == ["a", "b"]
    fleet.observe_models("b", [ServedModel("m")], 2.0)
    assert names(fleet.serving("lora")) == []
    fleet.remove("a")
    assert names(fleet.serving("m")) == ["b"]
    assert fleet.remove("a") is None
    assert (len(fleet), names(list(fleet))) == (1, ["b"])


def test_serving_is_the_same_sequence_until_something_changes() -> None:
    fleet = fleet_of("a", "b")
    first = fleet.serving("m")
    fleet.observe_load("a", Load(at=1.0, running=3))
    fleet.observe_health("a", True, 1.0, "still fine")
    assert fleet.serving("m") is first


def test_configured_models_win_and_keep_what_the_engine_adds() -> None:
    fleet = fleet_of("a", models=("m", "alias"))
    fleet.observe_models("a", [ServedModel("m", max_model_len=4096), ServedModel("other")], 1.0)
    assert fleet.models() == {
        "m": ServedModel("m", max_model_len=4096),
        "alias": ServedModel("alias"),
    }


def test_models_are_the_union_over_healthy_endpoints_in_stable_order() -> None:
    fleet = fleet_of("a", "b", "c", models=None)
    fleet.observe_models("c", [ServedModel("z")], 1.0)
    fleet.observe_models("a", [ServedModel("y"), ServedModel("x")], 1.0)
    fleet.observe_models("b", [ServedModel("x", max_model_len=9), ServedModel("w")], 1.0)
    assert list(fleet.models()) == ["y", "x", "w", "z"]
    fleet.observe_health("a", False, 2.0, "down")
    assert list(fleet.models()) == ["x", "w", "z"]


def test_knows_and_undecided_look_at_every_endpoint() -> None:
    fleet = fleet_of("a", models=None)
    assert (fleet.undecided, fleet.knows("m")) == (True, False)
    fleet.observe_models("a", [ServedModel("m")], 1.0)
    fleet.observe_health("a", False, 1.0, "down")
    assert (fleet.undecided, fleet.knows("m"), fleet.knows("other")) == (False, True, False)


def test_a_known_name_is_updated_in_place_and_its_ledger_survives() -> None:
    fleet = fleet_of("a")
    state = state_of(fleet, "a")
    state.ledger.reserve("r", 10, 5, 0.0)
    assert fleet.upsert(Endpoint("a", "http://a", models=("n",), cache_tokens=7), 1.0) is state
    assert state.health is Health.HEALTHY
    assert state.ledger.requests == 1
    assert state.cache_tokens == 7
    assert names(fleet.serving("n")) == ["a"]
    assert names(fleet.serving("m")) == []


def test_a_new_address_is_another_server() -> None:
    fleet = fleet_of("a", models=None)
    fleet.observe_models("a", [ServedModel("m")], 1.0)
    fleet.observe_load("a", Load(at=1.0, waiting=3))
    fleet.observe_engine("a", "vllm")
    state = state_of(fleet, "a")
    fleet.upsert(Endpoint("a", "http://elsewhere"), 2.0)
    assert state.health is Health.UNKNOWN
    assert (state.models, state.load, state.engine, state.foreign_waiting) == (None,) * 3 + (0.0,)


def test_draining_ends_only_by_being_named_again() -> None:
    fleet = fleet_of("a")
    fleet.drain("a", 1.0)
    fleet.observe_health("a", True, 2.0, "probe answered")
    fleet.observe_failure("a", 2.0, "reset", refused=True)
    assert state_of(fleet, "a").health is Health.DRAINING
    assert names(fleet.serving("m")) == []
    fleet.upsert(Endpoint("a", "http://a", models=("m",)), 3.0)
    fleet.observe_health("a", True, 4.0, "probe answered")
    assert names(fleet.serving("m")) == ["a"]


def fail(fleet: Fleet, name: str, now: float, *, refused: bool = False) -> None:
    fleet.observe_failure(name, now, "connection refused" if refused else "reset", refused=refused)


def test_a_refusal_is_a_matter_of_health_and_only_a_probe_brings_the_endpoint_back() -> None:
    fleet = fleet_of("a", "b")
    fail(fleet, "b", 2.0, refused=True)
    state = state_of(fleet, "b")
    assert (state.health, state.health_reason) == (Health.UNHEALTHY, "connection refused")
    assert (state.breaker.circuit, state.breaker.failures) == (Circuit.CLOSED, 0)
    fleet.tick(1_000.0)
    assert names(fleet.serving("m")) == ["a"]
    fleet.observe_health("b", True, 1_001.0, "probe answered")
    assert names(fleet.serving("m")) == ["a", "b"]


def test_three_failures_in_a_row_open_the_breaker_and_leave_the_health() -> None:
    fleet = fleet_of("a", "b")
    for _ in range(2):
        fail(fleet, "a", 1.0)
    fleet.observe_success("a", "r", 1.0)
    for _ in range(2):
        fail(fleet, "a", 1.0)
    assert names(fleet.serving("m")) == ["a", "b"]
    fail(fleet, "a", 2.0)
    assert names(fleet.serving("m")) == ["b"]
    state = state_of(fleet, "a")
    assert (state.health, state.breaker.circuit) == (Health.HEALTHY, Circuit.OPEN)
    assert (state.consecutive_failures, state.breaker.failures, state.breaker.openings) == (3, 5, 1)
    assert fleet.reopens_at("m") == fleet.reopens_at(None) == 3.0
    assert fleet.reopens_at("other") is None


def test_a_health_path_that_answers_does_not_hide_failing_requests() -> None:
    fleet = fleet_of("a")
    for _ in range(3):
        fleet.observe_health("a", True, 1.0, "probe answered")
        fail(fleet, "a", 1.0)
    assert names(fleet.serving("m")) == []


def test_a_half_open_endpoint_gets_one_request() -> None:
    fleet = fleet_of("a")
    state = state_of(fleet, "a")
    for _ in range(3):
        fail(fleet, "a", 1.0)
    fleet.tick(1.9)
    assert names(fleet.serving("m")) == []
    fleet.tick(2.0)
    assert names(fleet.serving("m")) == ["a"]
    fleet.sending(state, "probe")
    assert names(fleet.serving("m")) == []
    fleet.unproven(state, "probe")  # its client went away: the next one may try
    assert names(fleet.serving("m")) == ["a"]
    fleet.sending(state, "probe 2")
    fleet.answered(state, "probe 2", 2.5)
    assert names(fleet.serving("m")) == ["a"]
    assert state.breaker.circuit is Circuit.CLOSED


def test_breakers_of_a_fleet_reopen_each_at_its_own_time() -> None:
    fleet = fleet_of("a", "b", "c")
    for at, name in enumerate("abc"):
        for _ in range(3):
            fail(fleet, name, float(at))
    assert fleet.reopens_at("m") == 1.0
    fleet.tick(2.5)
    assert names(fleet.serving("m")) == ["a", "b"]
    fleet.remove("c")
    assert fleet.reopens_at("m") is None
    fleet.tick(9.0)
    assert names(fleet.serving("m")) == ["a", "b"]


def test_a_recovery_lets_a_probe_through_at_once_and_a_new_address_starts_afresh() -> None:
    fleet = fleet_of("a")
    state = state_of(fleet, "a")
    for _ in range(3):
        fail(fleet, "a", 1.0)
    fail(fleet, "a", 1.0, refused=True)
    fleet.observe_health("a", True, 1.1, "probe answered")
    assert (names(fleet.serving("m")), state.breaker.circuit) == (["a"], Circuit.HALF_OPEN)
    fleet.upsert(Endpoint("a", "http://elsewhere", models=("m",)), 2.0)
    assert (state.breaker.circuit, state.breaker.openings) == (Circuit.CLOSED, 0)


def test_a_drained_endpoint_stays_out_whatever_its_breaker_does() -> None:
    fleet = fleet_of("a")
    for _ in range(3):
        fail(fleet, "a", 1.0)
    fleet.drain("a", 1.5)
    fleet.tick(10.0)
    assert names(fleet.serving("m")) == []


def test_the_configured_engine_wins_over_the_detected_one() -> None:
    fleet = Fleet()
    fleet.upsert(Endpoint("a", "http://a", engine="sglang"), 0.0)
    fleet.upsert(Endpoint("b", "http://b"), 0.0)
    fleet.observe_engine("a", "vllm")
    fleet.observe_engine("b", "vllm")
    assert (state_of(fleet, "a").engine, state_of(fleet, "b").engine) == ("sglang", "vllm")


def test_observing_an_endpoint_that_left_is_ignored() -> None:
    fleet = Fleet()
    fleet.observe_load("gone", Load(at=0.0))
    fleet.observe_models("gone", [], 0.0)
    fleet.observe_engine("gone", "vllm")
    fleet.observe_health("gone", True, 0.0, "")
    fleet.observe_failure("gone", 0.0, "", refused=True)
    fleet.observe_success("gone", "r", 0.0)
    fleet.drain("gone", 0.0)
    assert len(fleet) == 0


@pytest.mark.parametrize(
    ("waiting", "running", "ours", "foreign"),
    [
        (0, 0, 0, (0, 0)),
        (None, None, 4, (0, 0)),
        (3, 5, 8, (0, 0)),
        (3, 5, 20, (0, 0)),
        (3, 5, 6, (2, 0)),
        (3, 5, 2, (3, 3)),
    ],
)
def test_a_scrape_tells_how_much_is_not_ours(
    waiting: int | None, running: int | None, ours: int, foreign: tuple[int, int]
) -> None:
    fleet = fleet_of("a")
    state = state_of(fleet, "a")
    for request in range(ours):
        state.ledger.reserve(request, 1, 1, 0.0)
    fleet.observe_load("a", Load(at=1.0, waiting=waiting, running=running))
    assert (state.foreign_waiting, state.foreign_running) == foreign


def test_the_cache_size_is_configured_else_reported_else_unknown() -> None:
    fleet = Fleet()
    state = fleet.upsert(Endpoint("a", "http://a"), 0.0)
    assert state.cache_tokens is None
    fleet.observe_load("a", Load(at=1.0, cache_block_tokens=16))
    assert state.cache_tokens is None
    fleet.observe_load("a", Load(at=1.0, cache_block_tokens=16, cache_blocks=100))
    assert state.cache_tokens == 1_600
