"""The capacity loop of one pool: look, decide, choose victims, drain, actuate. Again and again.

Level-triggered: every round starts from what is, so a round that is lost, fails halfway or
follows a restart needs no repair. What a restart forgets (`Memory`) is not needed to be safe: the
pool then starts from what its targets say.

Several gateways may run the loop for one pool; one of them leads and acts, the others only do
what is announced about members that leave. `leads` is asked before every single change, so a
leadership lost in the middle of a round ends it there.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from statistics import median
from typing import Final

from endpoints.discovery.keeper import FleetKeeper
from endpoints.scaling.actuators.actuator import Actuator, ActuatorError, Member, Target
from endpoints.scaling.appraisal import appraise, candidate
from endpoints.scaling.ceiling import Ceiling
from endpoints.scaling.decision import Memory, Wanted, decide
from endpoints.scaling.parties import Chooser, Decider, Entry, Holding, Observer, RoleTarget
from endpoints.scaling.role import Role
from endpoints.scaling.settings import ScalingSettings
from endpoints.scaling.sharing import Share, together
from endpoints.scaling.shrinking import Shrinking, members_of, replicas_of
from endpoints.scaling.signals import Observation, Replicas
from endpoints.scaling.starts import Starts
from endpoints.scaling.steps import next_step
from endpoints.scaling.use import RecentUse
from endpoints.scaling.victims import Candidate, in_order
from routing.router import Router

_log = logging.getLogger(__name__)
_POLL: Final = 0.5  # seconds between two looks at drains and at what traffic uses
_RATE: Final = 5_000.0  # prefill tokens a second where no endpoint has shown its own


async def _no_ceiling() -> Mapping[Role, Ceiling] | None:
    return None


class Controller:
    """The loop of one pool.

    ``settle``: see `FleetKeeper`. ``grace``: seconds that work in flight is given on a victim.
    ``others``: what other gateways see of the pool's traffic. ``ceiling``: what the allocator
    could give. ``starts``: shared with other pools' loops. ``dry_run``: decide and say so, but
    change nothing.
    """

    def __init__(
        self,
        pool: str,
        settings: ScalingSettings,
        actuators: Mapping[Role, Actuator],
        observer: Observer,
        *,
        router: Router,
        keeper: FleetKeeper,
        clock: Callable[[], float],
        wall: Callable[[], float] = time.time,
        holding: Holding | None = None,
        leads: Callable[[], bool] = lambda: True,
        others: Callable[[], tuple[Share, ...]] = tuple,
        ceiling: Callable[[], Awaitable[Mapping[Role, Ceiling] | None]] | None = None,
        starts: Starts | None = None,
        decider: Decider = decide,
        chooser: Chooser | None = None,
        grace: float = 60.0,
        dry_run: bool = False,
        poll: float = _POLL,
    ) -> None:
        if set(actuators) != set(settings.roles):
            wants = ", ".join(sorted(role.value for role in settings.roles))
            raise ValueError(f"pool {pool!r}: give a target for each of its roles: {wants}")
        self.pool = pool
        self.settings = settings
        self.roles = {
            role: RoleTarget(actuator, Shrinking(role, keeper, grace))
            for role, actuator in actuators.items()
        }
        self.wanted: Wanted | None = None
        """The latest decision."""
        self.own: Observation | None = None
        """What this gateway sees: what it tells the one that leads."""
        self.observation: Observation | None = None
        """What the latest decision was made of: what all gateways see."""
        self.replicas: dict[Role, Replicas] = {}
        """As the latest decision was shown them; without those that could not be read."""
        self.journal: deque[Entry] = deque(maxlen=100)
        """What happened lately, newest last."""
        self.dry_run = dry_run
        self.use = RecentUse()
        self._observer = observer
        self._router = router
        self._keeper = keeper
        self._clock = clock
        self._wall = wall
        self._holding = holding
        self._leads = leads
        self._led = False
        self._others = others
        self._ceiling = _no_ceiling if ceiling is None else ceiling
        self._starts = starts
        self._decide = decider
        self._choose = self.least_worth if chooser is None else chooser
        self._memory = Memory()
        self._poll = poll
        self._due = 0.0
        self._woken = asyncio.Event()
        if holding is not None:
            holding.wake = self.wake

    @property
    def leading(self) -> bool:
        """Whether this one acts."""
        return self._leads()

    def wake(self) -> None:
        """Decide as soon as possible: something happened that can't wait for the next round."""
        self._due = 0.0
        self._woken.set()

    async def run(self) -> None:
        """Go on until cancelled."""
        while True:
            self._woken.clear()
            try:
                await self.turn()
            except Exception:  # a defect in one round must not leave the pool as it is for ever
                _log.exception("scaling %s: a round failed by a defect", self.pool)
                self._note(None, "a round failed by a defect; the log has it")
            with suppress(TimeoutError):
                async with asyncio.timeout(self._poll):
                    await self._woken.wait()

    async def turn(self) -> None:
        """One turn: a whole round when it is due, else what can't wait for it."""
        now = self._clock()
        self.use.look(self._router.recent, now)
        if self._holding is not None:
            self._holding.learn()
        if not self.leading:
            await self._follow()
            return
        if now >= self._due:
            self._due = now + self.settings.interval
            await self._round()
        else:
            await self._advance()

    async def close(self) -> None:
        """Let go of the targets as they are."""
        for one in self.roles.values():
            await one.actuator.close()

    # --- a round -------------------------------------------------------------------------------

    async def _round(self) -> None:
        first = not self._led  # of a start, or of a reign: nothing is remembered
        if first:
            self._memory = Memory()
            self._note(None, "leads")
        for role, one in self.roles.items():
            if await self._look(role, one) and first:
                self._adopt(one)
        self._led = True
        ceiling = await self._ceiling()
        now = self._clock()
        if self._holding is not None:
            self._holding.closed = _why_nothing_can_come(ceiling, self.settings)
        self.own = self._observe(now)
        self.observation = observation = together(self.own, self._others())
        self.wanted, self._memory = self._decide(
            observation, self.settings, self._memory, ceiling, now
        )
        if self._starts is not None:
            oldest = None if self._holding is None else self._holding.oldest
            waits = 0.0 if oldest is None else now - oldest
            self.wanted = self._starts.share(self.wanted, observation, waits)
        for role, one in self.roles.items():
            await self._carry_out(role, one, self.wanted)

    def _observe(self, now: float) -> Observation:
        """What the brain knows; and of replicas what their targets know, who see also the pending.

        Whoever drains is given up already, so that our own unfinished step is no news to us.
        """
        counted = {
            role: replicas_of(one.target, one.shrinking, self._router.fleet, now)
            for role, one in self.roles.items()
            if one.target is not None
        }
        targets = {role: counted[role].target if role in counted else None for role in self.roles}
        self.replicas = counted
        held = 0 if self._holding is None else len(self._holding)
        seen = self._observer.collect(self._router, targets, now, held)
        roles = dict(seen.roles)
        for role, replicas in counted.items():
            roles[role] = replace(roles[role], replicas=replicas)
        return replace(seen, roles=roles, wall=self._wall())

    async def _look(self, role: Role, one: RoleTarget) -> bool:
        """See the target as it is; False when it can't be read."""
        try:
            target = await one.actuator.look()
        except ActuatorError as error:
            one.target = None
            self._trouble(role, one, str(error))
            return False
        one.target = target
        if one.trouble is not None:
            one.trouble = None
            self._note(role, f"{one.actuator.name} can be read again")
        one.shrinking.saw(target)
        return True

    def _adopt(self, one: RoleTarget) -> None:
        """Go on with what was announced by whoever led before."""
        for member in () if one.target is None else one.target.members:
            if member.announced and member.name not in one.shrinking:
                one.shrinking.retire(member, "announced by an earlier leader", self._clock())

    async def _carry_out(self, role: Role, one: RoleTarget, wanted: Wanted) -> None:
        target = one.target
        if target is None:
            await self._restore_late(role, one)
            return
        held = wanted.held
        if target.owner != one.conflict:
            one.conflict = target.owner
            whose = "nobody else" if target.owner is None else target.owner
            self._note(role, f"{whose} scales {one.actuator.name}")
        if target.owner is not None:
            held = f"{target.owner} scales it"
        if held is not None or self.dry_run:
            await self._restore(role, one, one.shrinking.draining, held or "dry run")
            return
        try:
            await self._step(role, one, target, wanted.replicas[role])
            if self._leads():
                await one.actuator.tell_need(wanted.needs[role])
            await self._finish(role, one)
        except ActuatorError as error:
            self._trouble(role, one, str(error))

    async def _step(self, role: Role, one: RoleTarget, target: Target, wanted: int) -> None:
        shrinking = one.shrinking
        members = members_of(target, shrinking)
        step = next_step(wanted, target.replicas, len(members), shrinking.draining)
        if not step or not self._leads():
            return
        if step.restore:
            await self._restore(role, one, step.restore, f"{wanted} replicas are wanted again")
        if step.retire:
            await self._retire(role, one, target, members, step.retire)
        number = step.replicas if step.replicas is not None else target.replicas - step.vacant
        if number != target.replicas:
            await self._scale(role, one, target, number, ())

    async def _retire(
        self, role: Role, one: RoleTarget, target: Target, members: Sequence[Member], count: int
    ) -> None:
        staying = [member for member in members if member.name not in one.shrinking]
        total = len(one.shrinking.draining) + count
        chosen = one.actuator.choosable(target, total)
        now = self._clock()
        if chosen is not None:
            victims = [(member, "the target ends its last ones first") for member in chosen]
        else:
            by_name = {member.name: member for member in staying}
            order = await self._choose(staying, count)
            victims = [(by_name[name], reason) for name, reason in order]
        for member, reason in victims:
            if member.name not in one.shrinking:
                one.shrinking.retire(member, reason, now)
                self._note(role, f"{member.name} is to go: {reason}")
        if not self._leads():
            return
        try:
            await one.actuator.announce(target, one.shrinking.draining)
        except ActuatorError:
            one.shrinking.restore([member.name for member, _ in victims])
            raise

    async def least_worth(self, members: Sequence[Member], count: int) -> Sequence[tuple[str, str]]:
        """Those whose going costs least, and why it is they."""
        fleet, now = self._router.fleet, self._clock()
        owners = {name: member.name for member in members for name in member.endpoints}
        warm = await appraise(self.use.uses(now), self._router.views, owners)
        candidates = []
        for member in members:
            states = [state for name in member.endpoints if (state := fleet.get(name))]
            parts = [candidate(state, now) for state in states]
            ready = bool(parts) and all(part.ready for part in parts)
            drain = max((part.drain_seconds for part in parts), default=0.0)
            candidates.append(Candidate(member.name, ready, drain, now - member.since))
        rates = [state.timing.prefill_rate for state in fleet]
        order = in_order(
            candidates, warm, prefill_rate=median(rates) if rates else _RATE, count=count
        )
        return [(victim.name, victim.reason) for victim in order]

    # --- between rounds ------------------------------------------------------------------------

    async def _advance(self) -> None:
        """End who is drained, and take back who has waited for it in vain."""
        for role, one in self.roles.items():
            if not one.shrinking.going:
                continue
            await self._restore_late(role, one)
            if one.shrinking.drained and one.target is not None and not self.dry_run:
                await self._look(role, one)
                try:
                    await self._finish(role, one)
                except ActuatorError as error:
                    self._trouble(role, one, str(error))
            elif any(going.ending_since is not None for going in one.shrinking.going):
                await self._look(role, one)

    async def _finish(self, role: Role, one: RoleTarget) -> None:
        """Take those off the number that are drained."""
        await self._restore_late(role, one)
        target = one.target
        if target is None or target.owner is not None:
            return
        ready = one.actuator.removable(target, one.shrinking.drained)
        if ready:
            await self._scale(role, one, target, target.replicas - len(ready), ready)

    async def _restore_late(self, role: Role, one: RoleTarget) -> None:
        late = one.shrinking.progress(self._clock())
        await self._restore(role, one, late, "it stood idle for too long")

    async def _restore(self, role: Role, one: RoleTarget, names: Sequence[str], why: str) -> None:
        if not names:
            return
        one.shrinking.restore(names)
        for name in names:
            self._note(role, f"{name} serves again: {why}")
        if one.target is not None and self._leads():
            try:
                await one.actuator.announce(one.target, one.shrinking.draining)
            except ActuatorError as error:
                self._trouble(role, one, str(error))

    async def _scale(
        self, role: Role, one: RoleTarget, target: Target, replicas: int, removed: Sequence[str]
    ) -> None:
        if replicas < 0 or not self._leads():
            return
        await one.actuator.scale(target, replicas, removed)
        one.shrinking.ending(removed, self._clock())
        one.changes["up" if replicas > target.replicas else "down"] += 1
        ended = f", without {', '.join(removed)}" if removed else ""
        self._note(role, f"{one.actuator.name}: {target.replicas} -> {replicas}{ended}")
        one.target = Target(replicas, "", target.members, target.owner)
        await self._look(role, one)  # its version is another one now

    # --- following -----------------------------------------------------------------------------

    async def _follow(self) -> None:
        """Another gateway leads: drain whom it announces, and take back whom it takes back."""
        if self._led:
            self._led = False
            self._note(None, "leads no longer")
        now = self._clock()
        if now < self._due:
            return
        self._due = now + min(self.settings.interval, 1.0)
        for role, one in self.roles.items():
            try:
                one.target = await one.actuator.look()
            except ActuatorError as error:
                self._trouble(role, one, str(error))
                continue
            one.trouble = None
            one.shrinking.saw(one.target)
            announced = {member.name for member in one.target.members if member.announced}
            for member in one.target.members:
                if member.announced:
                    one.shrinking.retire(member, "announced by the leader", now)
            one.shrinking.restore(set(one.shrinking.draining) - announced)
        self.own = self._observe(now)

    # --- telling -------------------------------------------------------------------------------

    def _trouble(self, role: Role, one: RoleTarget, why: str) -> None:
        if one.trouble != why:
            one.trouble = why
            self._note(role, f"trouble: {why}")

    def _note(self, role: Role | None, what: str) -> None:
        self.journal.append(Entry(self._clock(), role, what))
        of = "" if role is None else f" ({role.value})"
        _log.info("scaling %s%s: %s", self.pool, of, what, extra={"pool": self.pool})


def _why_nothing_can_come(
    ceiling: Mapping[Role, Ceiling] | None, settings: ScalingSettings
) -> str | None:
    """Why no endpoint of some role could run; None: one of each could."""
    if ceiling is None:
        return None
    for role in settings.roles:
        if role in ceiling and ceiling[role].now == 0:
            return f"{role.value}: {ceiling[role].reason}"
    return None
