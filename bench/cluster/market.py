"""Who has which devices in the contest, and what equals yield: as the controller sees it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from bench.scaling.fleet import Life, Member
from endpoints.allocation.holdings import Holding
from endpoints.allocation.needs import Gang
from endpoints.allocation.plan import Eviction
from endpoints.allocation.shares import TENURE, Needs, Stake, yields


class Fleet(Protocol):
    """A pool's endpoints."""

    def idle(self) -> Iterable[Member]:
        """Those that are ready and have nothing to do."""

    def counted(self, *lives: Life) -> int:
        """How many are in one of these stages."""

    def give_up(self, names: Sequence[str]) -> None:
        """Others need their devices."""


class Player(Protocol):
    """A pool that plays."""

    needs: Needs

    @property
    def fleet(self) -> Fleet:
        """Its endpoints."""


@dataclass(slots=True)
class Market:
    """The pools by name. ``claims`` are those of a replica, by its name."""

    claims: Callable[[str], tuple[str, ...]]
    pools: dict[str, Player] = field(default_factory=dict)

    def holdings(self, gang: Gang, now: float) -> list[Holding]:
        """What others have and do nothing with; with how many of it they yield to this gang."""
        taker = self.pools.get(gang.pool)
        if taker is None:
            return []  # the first replicas, before anybody plays
        mine = self._stake(taker, taker.needs.steady(now))
        found = []
        for name, pool in self.pools.items():
            count = 0 if pool is taker else yields(self._stake(pool, pool.needs.most()), mine)
            if not count:
                continue
            found += [
                Holding(name, member.name, gang.priority, self.claims(member.name), True, count)
                for member in pool.fleet.idle()
                if now - member.started_at >= TENURE
            ]
        return found

    def give_up(self, evictions: Sequence[Eviction]) -> None:
        """Their devices are free from now on."""
        for name, pool in self.pools.items():
            pool.fleet.give_up([one.replica for one in evictions if one.pool == name])

    @staticmethod
    def _stake(pool: Player, needed: int) -> Stake:
        return Stake(needed, pool.fleet.counted(Life.STARTING, Life.READY), 1)
