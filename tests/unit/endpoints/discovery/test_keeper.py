import asyncio

import pytest

from endpoints.discovery.keeper import FleetKeeper
from endpoints.discovery.reconcile import Changes, reconcile
from routing.fleet import Endpoint, Fleet, Health

A, B, C = (Endpoint(name, f"http://{name}:80") for name in "abc")
B_MOVED = Endpoint("b", "http://elsewhere:80")


def test_reconcile_finds_the_difference() -> None:
    assert reconcile({"a": A, "b": B}, [B_MOVED, C]) == Changes((C,), (B_MOVED,), ("a",))
    assert not reconcile({"a": A}, [A])


def test_a_name_given_twice_is_an_error_that_shows_both() -> None:
    with pytest.raises(ValueError, match=r"'b' \(http://b:80 and http://elsewhere:80\)"):
        reconcile({}, [B, B_MOVED])


class Setting:
    def __init__(self) -> None:
        self.now = 0.0
        self.fleet = Fleet()
        self.removed: list[str] = []
        self.changes = 0
        self.keeper = FleetKeeper(
            self.fleet,
            clock=lambda: self.now,
            upsert=self.fleet.upsert,
            remove=self.remove,
            changed=self.changed,
            grace=30,
        )

    def remove(self, name: str) -> None:
        self.removed.append(name)
        self.fleet.remove(name)

    def changed(self) -> None:
        self.changes += 1

    def names(self) -> list[str]:
        return [state.name for state in self.fleet]

    def occupy(self, name: str) -> None:
        state = self.fleet.get(name)
        assert state is not None
        state.ledger.reserve("request", 100, 100, self.now)

    def release(self, name: str) -> None:
        state = self.fleet.get(name)
        assert state is not None
        state.ledger.release("request", self.now)

    def health(self, name: str) -> Health:
        state = self.fleet.get(name)
        assert state is not None
        return state.health


@pytest.fixture
def setting() -> Setting:
    return Setting()


def test_endpoints_join_change_and_leave(setting: Setting) -> None:
    setting.keeper.apply([A, B])
    assert setting.names() == ["a", "b"]
    changes = setting.keeper.apply([B_MOVED, C])
    assert changes == Changes((C,), (B_MOVED,), ("a",))
    assert setting.names() == ["b", "c"]
    state = setting.fleet.get("b")
    assert state is not None
    assert state.endpoint == B_MOVED
    assert setting.removed == ["a"]


def test_nothing_new_changes_nothing(setting: Setting) -> None:
    setting.keeper.apply([A])
    before = setting.changes
    assert not setting.keeper.apply([A])
    assert setting.changes == before


def test_an_occupied_endpoint_drains_first(setting: Setting) -> None:
    setting.keeper.apply([A, B])
    setting.occupy("a")
    setting.keeper.apply([B])
    assert setting.health("a") is Health.DRAINING
    assert setting.keeper.sweep() == ()
    setting.release("a")
    before = setting.changes
    assert setting.keeper.sweep() == ("a",)
    assert setting.changes == before + 1
    assert setting.names() == ["b"]


def test_grace_ends(setting: Setting) -> None:
    setting.keeper.apply([A])
    setting.occupy("a")
    setting.keeper.apply([])
    setting.now = 29.0
    assert setting.keeper.sweep() == ()
    setting.now = 30.0
    assert setting.keeper.sweep() == ("a",)


def test_a_draining_endpoint_is_taken_back(setting: Setting) -> None:
    setting.keeper.apply([A])
    setting.occupy("a")
    setting.keeper.apply([])
    assert setting.keeper.apply([A]).added == (A,)
    assert setting.health("a") is Health.UNKNOWN
    setting.release("a")
    assert setting.keeper.sweep() == ()


def test_a_set_with_a_fault_is_not_applied(setting: Setting) -> None:
    setting.keeper.apply([A])
    with pytest.raises(ValueError, match="two endpoints"):
        setting.keeper.apply([B, B_MOVED])
    assert setting.names() == ["a"]


async def test_a_drained_endpoint_leaves_by_itself(setting: Setting) -> None:
    setting.keeper.apply([A, B])
    setting.occupy("a")
    setting.keeper.apply([B])
    sweeping = asyncio.create_task(setting.keeper.keep_sweeping(interval=0.001))
    try:
        async with asyncio.timeout(5):
            assert setting.health("a") is Health.DRAINING
            setting.release("a")
            while setting.names() != ["b"]:
                await asyncio.sleep(0.001)
    finally:
        sweeping.cancel()
        await asyncio.gather(sweeping, return_exceptions=True)
