"""What the pools of a cluster are to each other: who would give way, what could be moved."""

from collections.abc import Iterable, Sequence
from math import inf
from typing import Final

from msgspec.structs import replace

from endpoints.allocation.controller.course import Outcome
from endpoints.allocation.controller.planning import Planning
from endpoints.allocation.controller.pool import ManagedPool
from endpoints.allocation.holdings import Holding
from endpoints.allocation.shares import yields

ADVICE_SECONDS: Final = 60.0
"""Between two looks for what could be moved; each plans for every replica that it looks at."""
_MOST_MOVES: Final = 16


def offered(
    taker: ManagedPool,
    pools: Iterable[ManagedPool],
    holdings: Sequence[Holding],
    now: float,
    tenure: float,
) -> Sequence[Holding]:
    """The holdings with what equals yield to this pool, if it shares.

    ``tenure``: seconds that a replica has been there before it may be taken so.
    """
    if taker.capacity is None or not taker.capacity.gang.shares:
        return holdings
    stake = taker.stake(taker.needs.steady(now))
    placed = {
        f"{pool.uid}/{record.name}": (pool, now - record.since)
        for pool in pools
        for record in pool.records
        if not record.draining
    }
    found = []
    for one in holdings:
        pool, age = placed.get(one.replica, (taker, 0.0))
        tenured = pool is not taker and age >= tenure
        count = yields(pool.stake(pool.needs.most()), stake) if tenured else 0
        found.append(replace(one, yields=count) if count else one)
    return found


def advise(
    pool: ManagedPool,
    outcome: Outcome,
    holdings: Sequence[Holding],
    planner: Planning,
    now: float,
) -> str:
    """Look for one move that would make room for what has none; the advice if it is news."""
    if len(outcome.placed) >= outcome.wanted or outcome.evictions:
        pool.advice, pool.advised = "", -inf
        return ""
    if pool.capacity is None or now - pool.advised < ADVICE_SECONDS:
        return ""
    pool.advised, before = now, pool.advice
    smallest = sorted(holdings, key=lambda one: len(one.claims))[:_MOST_MOVES]
    found = planner.advise(pool.capacity.gang, now, smallest)
    pool.advice = ""
    if found is not None:
        nodes = ", ".join(dict.fromkeys(pod.node for pod in found.moved.pods))
        replica = found.holding.replica.partition("/")[2]
        pool.advice = f"moving {replica} to {nodes} would make room for one more"
    return pool.advice if pool.advice != before else ""
