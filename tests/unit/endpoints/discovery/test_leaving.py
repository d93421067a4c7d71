"""The contract of leaving: nothing new, what is in flight may end, then it may be ended."""

from endpoints.discovery.keeper import FleetKeeper
from endpoints.discovery.leaving import quiet
from routing.fleet import Endpoint, EndpointState, Fleet, Health, Load

A, B = (Endpoint(name, f"http://{name}:80") for name in "ab")


class Setting:
    def __init__(self) -> None:
        self.now = 0.0
        self.fleet = Fleet()
        self.keeper = FleetKeeper(
            self.fleet,
            clock=lambda: self.now,
            upsert=self.fleet.upsert,
            remove=self.fleet.remove,
            changed=lambda: None,
            grace=30,
            settle=1.0,
        )
        self.keeper.apply([A, B])

    def state(self, name: str) -> EndpointState:
        state = self.fleet.get(name)
        assert state is not None
        return state

    def scrape(self, name: str, running: float | None) -> None:
        self.fleet.observe_load(name, Load(at=self.now, running=running, waiting=0.0))

    def sweep(self, now: float) -> tuple[str, ...]:
        self.now = now
        return self.keeper.sweep()


def test_a_retired_endpoint_gets_nothing_new_though_discovery_still_names_it() -> None:
    setting = Setting()
    leaving = setting.keeper.retire("a")
    assert setting.state("a").health is Health.DRAINING
    setting.keeper.apply([A, B])
    assert setting.state("a").health is Health.DRAINING
    assert setting.sweep(1.5) == ("a",)
    assert leaving.drained
    setting.keeper.apply([A, B])
    assert [state.name for state in setting.fleet] == ["b"]


def test_it_is_drained_when_what_was_in_flight_has_ended() -> None:
    setting = Setting()
    setting.state("a").ledger.reserve("r", 10, 10, 0.0)
    leaving = setting.keeper.retire("a")
    assert setting.sweep(20.0) == ()
    setting.state("a").ledger.release("r", 20.0)
    assert setting.sweep(20.5) == ("a",)
    assert (leaving.drained_at, leaving.cut) == (20.5, 0)


def test_after_the_grace_period_it_may_be_ended_in_any_case() -> None:
    setting = Setting()
    setting.state("a").ledger.reserve("r", 10, 10, 0.0)
    leaving = setting.keeper.retire("a", grace=5.0)
    assert setting.sweep(4.9) == ()
    assert setting.sweep(5.0) == ("a",)
    assert leaving.cut == 1


def test_requests_of_other_gateways_are_waited_for_where_the_engine_tells() -> None:
    setting = Setting()
    setting.scrape("a", 0.0)
    setting.keeper.retire("a")
    assert setting.sweep(1.5) == ()  # the scrape was taken before the others could know
    setting.scrape("a", 2.0)
    assert setting.sweep(2.0) == ()
    setting.now = 3.0
    setting.scrape("a", 0.0)
    assert setting.sweep(3.0) == ("a",)


def test_an_engine_that_has_fallen_silent_is_not_waited_for() -> None:
    state = Setting().state("a")
    state.load = Load(at=0.0, running=3.0)
    assert not quiet(state, 1.0, 4.0, 1.0)
    assert quiet(state, 1.0, 6.0, 1.0)
    state.load = Load(at=0.0, running=None)
    assert quiet(state, 1.0, 2.0, 1.0)


def test_a_retired_endpoint_is_taken_back_while_it_drains_and_after() -> None:
    setting = Setting()
    for end in (0.5, 2.0):  # draining still; drained and out of the fleet
        setting.keeper.retire("a")
        setting.sweep(setting.now + end)
        setting.keeper.restore("a")
        assert setting.state("a").health is Health.UNKNOWN
        assert setting.keeper.leaving("a") is None


def test_a_retired_endpoint_whose_pod_goes_by_itself_is_drained_like_any_other() -> None:
    setting = Setting()
    setting.state("a").ledger.reserve("r", 10, 10, 0.0)
    setting.keeper.retire("a")
    setting.keeper.apply([B])
    assert setting.keeper.retired == ()
    assert setting.sweep(10.0) == ()
    setting.state("a").ledger.release("r", 10.0)
    assert setting.sweep(10.1) == ("a",)
    setting.keeper.apply([A, B])  # the name comes back: another pod
    assert setting.state("a").health is Health.UNKNOWN


def test_who_is_not_there_is_drained_already_and_nobody_comes_back_unnamed() -> None:
    setting = Setting()
    assert setting.keeper.retire("nobody").drained
    setting.keeper.restore("nobody")
    setting.keeper.restore("never retired")
    assert setting.fleet.get("nobody") is None
