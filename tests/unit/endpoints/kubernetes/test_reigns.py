"""What only the one that leads may run begins with its reign, and ends with it."""

import asyncio
from collections.abc import Callable

import pytest

from endpoints.kubernetes.errors import UnreachableError
from endpoints.kubernetes.leading import reign
from endpoints.kubernetes.leading.election import Election
from endpoints.kubernetes.leading.reign import Leads, Reigns


class Lot:
    """A candidate whose luck the test decides."""

    def __init__(self) -> None:
        self.election = Election("me")
        self.changed: Callable[[], object] = lambda: None
        self.lucky = False
        self.stopped = False

    def leads(self) -> bool:
        return self.lucky

    async def start(self) -> None:
        return

    async def stop(self) -> None:
        self.stopped = True

    def draw(self, lucky: bool, number: int = 0) -> None:
        self.lucky, self.election.transitions = lucky, number
        self.changed()


class Work:
    """What is run; ``fails``: how often it can't begin."""

    def __init__(self, leads: Leads, journal: list[str], fails: int = 0) -> None:
        self.leads = leads
        self.fails = fails
        self.journal = journal

    async def start(self) -> None:
        if self.fails:
            raise UnreachableError("no answer")
        self.journal.append("start")

    async def stop(self) -> None:
        self.journal.append("stop")


async def _turn() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_it_runs_for_as_long_as_it_leads() -> None:
    lot, journal = Lot(), list[str]()
    reigns = Reigns(lot, lambda leads: Work(leads, journal))
    await reigns.start()
    await _turn()
    assert not journal
    lot.draw(True)
    await _turn()
    first = reigns.running
    assert first is not None
    assert first.leads()
    lot.draw(True)  # a note came: nothing changes
    await _turn()
    assert reigns.running is first
    lot.draw(False)
    assert not first.leads(), "at once, whoever has heard of it"
    await _turn()
    assert journal == ["start", "stop"]
    await reigns.stop()
    assert lot.stopped


async def test_a_reign_that_another_one_came_after_is_over_though_we_lead_again() -> None:
    lot, journal = Lot(), list[str]()
    reigns = Reigns(lot, lambda leads: Work(leads, journal))
    await reigns.start()
    lot.draw(True, 3)
    await _turn()
    old = reigns.running
    lot.draw(False, 4)  # another's
    lot.draw(True, 5)  # before anybody looked
    assert old is not None
    assert not old.leads()
    await _turn()
    assert journal == ["start", "stop", "start"]
    assert reigns.running is not old
    assert reigns.begun == 2
    await reigns.stop()
    assert journal == ["start", "stop", "start", "stop"]


async def test_who_can_not_begin_tries_again_while_it_leads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reign, "_AGAIN_SECONDS", 0.0)
    lot, journal, fails = Lot(), list[str](), iter([1, 1, 0])
    reigns = Reigns(lot, lambda leads: Work(leads, journal, next(fails)))
    await reigns.start()
    lot.draw(True)
    await _turn()
    await _turn()
    await _turn()
    assert journal == ["stop", "stop", "start"]
    await reigns.stop()


async def test_it_stops_before_it_gives_up_the_lease() -> None:
    lot, order = Lot(), list[str]()

    class Slow(Work):
        async def stop(self) -> None:
            await asyncio.sleep(0)
            order.append(f"stopped, lease given up: {lot.stopped}")

    reigns = Reigns(lot, lambda leads: Slow(leads, []))
    await reigns.start()
    lot.draw(True)
    await _turn()
    await reigns.stop()
    assert order == ["stopped, lease given up: False"]
