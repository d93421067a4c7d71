import pytest

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


def test_three_failures_in_a_row_or_one_refusal_take_an_endpoint_out() -> None:
    fleet = fleet_of("a", "b")
    for _ in range(2):
        fleet.observe_failure("a", 1.0, "reset", refused=False)
    fleet.observe_success("a")
    for _ in range(2):
        fleet.observe_failure("a", 1.0, "reset", refused=False)
    assert names(fleet.serving("m")) == ["a", "b"]
    fleet.observe_failure("a", 2.0, "reset", refused=False)
    fleet.observe_failure("b", 2.0, "connection refused", refused=True)
    assert names(fleet.serving("m")) == []
    assert state_of(fleet, "b").health_reason == "connection refused"
    fleet.observe_health("a", True, 3.0, "probe answered")
    fleet.observe_failure("a", 4.0, "reset", refused=False)  # the row starts anew
    assert names(fleet.serving("m")) == ["a"]


def test_a_health_path_that_answers_does_not_hide_failing_requests() -> None:
    fleet = fleet_of("a")
    for _ in range(3):
        fleet.observe_health("a", True, 1.0, "probe answered")
        fleet.observe_failure("a", 1.0, "reset", refused=False)
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
    fleet.observe_success("gone")
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
