"""The bench of the line before a busy pool: who waits in it, and what its bars say."""

from bench.admission.cases import (
    ALL,
    CALM,
    FITS,
    FLOOD,
    NORMAL,
    PRIORITIES,
    TENANTS,
    TOO_MUCH,
    URGENT,
    Fared,
    Group,
    group,
    senders,
)
from bench.admission.checks import checks
from bench.admission.simulation import AdmittedSimulation, Manner, Sender
from bench.replay.outcome import RequestOutcome
from bench.replay.settings import ReplaySettings
from bench.replay.workload import Arrival, Workload

RUSH = Workload("rush", tuple(Arrival(0.01 * n, 20_000, 20, (n,) * 40) for n in range(30)), 512)
"""Minutes of prefill that come in a third of a second, before one engine."""


def played(manner: Manner) -> list[RequestOutcome]:
    """Every third request is urgent, every third may be shed."""
    sent = [Sender("one", (10, 0, -10)[number % 3]) for number in range(30)]
    simulation = AdmittedSimulation(RUSH, sent, manner, ReplaySettings(endpoints=1))
    simulation.run()
    return simulation.result(0.0).requests


def wait_of(outcomes: list[RequestOutcome], which: int) -> float:
    waits = group([one for number, one in enumerate(outcomes) if number % 3 == which])
    assert waits.ttft_mean is not None
    return waits.ttft_mean


def test_engines_serve_in_order_of_arrival_and_a_line_by_priority() -> None:
    plain, lined = played(Manner.ENGINES), played(Manner.LINE)
    assert all(one.finished_at is not None for one in (*plain, *lined))
    assert wait_of(plain, 0) > 0.8 * wait_of(plain, 2)
    assert wait_of(lined, 0) < 0.6 * wait_of(lined, 1) < 0.6 * wait_of(lined, 2)


def test_only_what_may_be_shed_is() -> None:
    refused = {
        number % 3 for number, one in enumerate(played(Manner.SHED)) if one.first_token_at is None
    }
    assert refused <= {2}


def test_senders_are_the_same_for_every_manner_and_differ_by_seed() -> None:
    assert senders(PRIORITIES, 50, 1) == senders(PRIORITIES, 50, 1)
    assert senders(PRIORITIES, 50, 1) != senders(PRIORITIES, 50, 2)
    sent, kinds = senders(TENANTS, 1_000, 1)
    assert 700 < kinds.count(FLOOD) < 900
    assert {one.tenant for one, kind in zip(sent, kinds, strict=True) if kind == FLOOD} == {FLOOD}


def fared(scene: str, speed: float, manner: Manner, span: float = 10.0, **waits: float) -> Fared:
    return Fared(
        scene,
        speed,
        manner,
        {kind: Group(wait, wait, wait, 1.0, 1.0) for kind, wait in waits.items()},
        span,
    )


def verdicts(**lined: float) -> dict[str, bool]:
    found = [
        fared(scene, speed, manner, **these)
        for scene, waits in (
            (PRIORITIES, {ALL: 5.0, URGENT: 5.0, NORMAL: 5.0}),
            (TENANTS, {ALL: 5.0, CALM: 5.0, FLOOD: 5.0}),
        )
        for speed in (FITS, TOO_MUCH)
        for manner, these in ((Manner.ENGINES, waits), (Manner.LINE, {**waits, **lined}))
    ]
    return {check.name: check.ok for check in checks(found, TOO_MUCH)}


def test_a_line_that_helps_nobody_fails() -> None:
    helps = verdicts(urgent=1.0, calm=1.0)
    assert all(helps.values())
    idle = verdicts(urgent=4.9, calm=4.9)
    assert [name for name, ok in idle.items() if not ok] == [
        "priorities: median TTFT of the urgent at overload",
        "tenants: median TTFT of the calm at overload",
    ]
    dear = verdicts(urgent=1.0, calm=1.0, all=6.0)
    assert [name for name, ok in dear.items() if not ok] == [
        "priorities: mean TTFT where all fits",
        "tenants: mean TTFT where all fits",
    ]
