"""Nobody leads beside anybody else, whatever clocks and networks do."""

from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from endpoints.kubernetes.leading.election import Election, ElectionSettings

PACE = ElectionSettings(lease_seconds=15, renew_seconds=10.0, retry_seconds=2.0)


@dataclass
class Lease:
    """What the API server has, with its guard against lost updates."""

    spec: dict[str, Any] | None = None
    version: int = 0

    def write(self, spec: dict[str, Any], version: int) -> bool:
        if version != self.version:
            return False
        self.spec, self.version = spec, version + 1
        return True


def _try(election: Election, lease: Lease, now: float, *, answer_at: float | None = None) -> None:
    if lease.spec is None:
        election.absent()
    else:
        election.saw(lease.spec, now)
    if election.may_write(now):
        spec = election.spec(1e9 + now)
        if lease.write(spec, lease.version):
            election.wrote(spec, now, now if answer_at is None else answer_at)


def test_the_first_takes_it_and_keeps_it_while_it_renews() -> None:
    lease, a, b = Lease(), Election("a", PACE), Election("b", PACE)
    for now in range(0, 100, 2):
        _try(a, lease, float(now))
        _try(b, lease, now + 0.5)
        assert a.leads(now + 1.9)
        assert not b.leads(now + 1.9)
    assert lease.spec is not None
    assert lease.spec["leaseTransitions"] == 0
    assert lease.spec["acquireTime"] < lease.spec["renewTime"]


def test_a_leader_that_falls_silent_stops_before_another_begins() -> None:
    lease, a, b = Lease(), Election("a", PACE), Election("b", PACE)
    _try(a, lease, 0.0)
    _try(b, lease, 1.0)  # b sees the record for the first time
    assert a.leads(9.9)
    assert not a.leads(10.0)
    _try(b, lease, 15.9)
    assert not b.leads(15.9)
    _try(b, lease, 16.0)
    assert b.leads(16.0)
    assert lease.spec is not None
    assert (lease.spec["holderIdentity"], lease.spec["leaseTransitions"]) == ("b", 1)
    _try(a, lease, 17.0)
    assert not a.leads(17.0)


def test_a_slow_answer_shortens_the_reign() -> None:
    lease, a = Lease(), Election("a", PACE)
    _try(a, lease, 0.0, answer_at=9.0)
    assert not a.leads(10.0)


def test_a_released_lease_is_taken_at_once() -> None:
    lease, a, b = Lease(), Election("a", PACE), Election("b", PACE)
    _try(a, lease, 0.0)
    lease.write(a.released(1e9), lease.version)
    assert not a.leads(0.5)
    _try(b, lease, 1.0)
    assert b.leads(1.0)


def test_times_in_a_record_are_not_believed() -> None:
    lease = Lease({"holderIdentity": "x", "renewTime": "2001-01-01T00:00:00.000000Z"}, 7)
    a = Election("a", PACE)
    _try(a, lease, 0.0)
    assert not a.leads(0.0)


def test_a_lease_that_was_deleted_is_not_led_by() -> None:
    a = Election("a", PACE)
    _try(a, Lease(), 0.0)
    a.absent()
    assert not a.leads(0.1)


@pytest.mark.parametrize("pace", [(10, 10.0, 2.0), (15, 2.0, 2.0)])
def test_paces_that_can_not_be_safe_are_refused(pace: tuple[int, float, float]) -> None:
    with pytest.raises(ValueError, match="must be longer"):
        ElectionSettings(*pace)


@dataclass
class Candidate:
    election: Election
    speed: float
    """Of its clock, against true time."""
    offset: float
    next_try: float = 0.0
    away_until: float = field(default=0.0)

    def clock(self, true: float) -> float:
        return self.offset + true * self.speed


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 4))
def test_there_are_never_two(seed: int, count: int) -> None:
    dice = Random(seed)
    lease = Lease()
    candidates = [
        Candidate(Election(f"c{n}", PACE), dice.uniform(0.95, 1.05), dice.uniform(0.0, 1e6))
        for n in range(count)
    ]
    reigns = 0
    true = 0.0
    while true < 400.0:
        true += 0.5
        for one in candidates:
            if dice.random() < 0.005:
                one.away_until = true + dice.uniform(0.0, 60.0)
            if true >= one.next_try and true >= one.away_until:
                one.next_try = true + dice.uniform(2.0, 2.4)
                now = one.clock(true)
                _try(one.election, lease, now, answer_at=now + dice.uniform(0.0, 3.0))
        leading = [one for one in candidates if one.election.leads(one.clock(true))]
        assert len(leading) <= 1
        reigns += bool(leading)
    assert reigns > 100
