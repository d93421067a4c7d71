"""A scale target in memory, as a Deployment with its ReplicaSet controller would be."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from endpoints.discovery.keeper import FleetKeeper
from endpoints.scaling.actuators.actuator import ActuatorError, Member, MovedError, Phase, Target
from endpoints.scaling.ceiling import Ceiling
from endpoints.scaling.controller import Controller
from endpoints.scaling.decision import Memory, Wanted
from endpoints.scaling.receipt import Receipt
from endpoints.scaling.role import Role
from endpoints.scaling.settings import Bounds, ScalingSettings
from endpoints.scaling.signals import Observation, Replicas, RoleObservation
from routing.fleet import Endpoint, Fleet, ServedModel
from routing.policies import make_policy
from routing.prefix.index import PrefixIndex
from routing.router import Router, RouterSettings


class MemoryTarget:
    """Members come and go as `reconcile` is called; each is an endpoint of the same name."""

    name = "target in memory"

    def __init__(self, replicas: int) -> None:
        self.replicas = replicas
        self.version = 0
        self.owner: str | None = None
        self.away: str | None = None
        self.members: list[Member] = []
        self.announced: list[str] = []
        self.writes: list[int] = []
        self.born = 0
        self.reconcile(0.0)

    def reconcile(self, now: float) -> None:
        """Make as many members as there should be; the announced ones go first."""
        order = sorted(
            self.members,
            key=lambda one: (one.name not in self.announced, -one.since),
        )
        for member in order[: max(len(self.members) - self.replicas, 0)]:
            self.members.remove(member)
        while len(self.members) < self.replicas:
            self.born += 1
            name = f"m{self.born}"
            self.members.append(Member(name, (name,), Phase.RUNNING, now))

    async def look(self) -> Target:
        if self.away is not None:
            raise ActuatorError(self.away)
        members = tuple(
            replace(member, announced=member.name in self.announced) for member in self.members
        )
        return Target(self.replicas, str(self.version), members, self.owner)

    def choosable(self, target: Target, count: int) -> Sequence[Member] | None:
        return None

    def removable(self, target: Target, drained: Collection[str]) -> Sequence[str]:
        return [member.name for member in target.members if member.name in drained]

    async def announce(self, target: Target, leaving: Sequence[str]) -> None:
        if self.away is not None:
            raise ActuatorError(self.away)
        self.announced = list(leaving)

    async def scale(self, target: Target, replicas: int, removed: Sequence[str]) -> None:
        if self.away is not None:
            raise ActuatorError(self.away)
        if target.version != str(self.version):
            raise MovedError("somebody was faster")
        self.replicas, self.version = replicas, self.version + 1
        self.writes.append(replicas)

    async def tell_need(self, needed: int) -> None:
        """Nothing is short here."""

    async def close(self) -> None:
        pass


class Plain:
    """Observes nothing but replicas."""

    def collect(
        self, router: Router, targets: Mapping[Role, int | None], now: float, held: int = 0
    ) -> Observation:
        roles = {role: RoleObservation(replicas=Replicas(target=n)) for role, n in targets.items()}
        return Observation("pool", now, roles, held)


class Scene:
    """A pool of one role with its controller, in time that the test owns."""

    def __init__(self, replicas: int, *, target: MemoryTarget | None = None) -> None:
        self.now = 0.0
        self.wish = replicas
        self.held: str | None = None
        self.lead = True
        self.target = MemoryTarget(replicas) if target is None else target
        self.router = Router(
            Fleet(), PrefixIndex(1 << 20), make_policy("round_robin"), RouterSettings()
        )
        self.keeper = FleetKeeper(
            self.router.fleet,
            clock=lambda: self.now,
            upsert=self.router.upsert_endpoint,
            remove=self.router.remove_endpoint,
            changed=lambda: None,
            settle=1.0,
        )
        self.seen: list[Observation] = []
        self.controller = Controller(
            "pool",
            ScalingSettings(roles={Role.BOTH: Bounds(0, 100)}, interval=5.0),
            {Role.BOTH: self.target},
            Plain(),
            router=self.router,
            keeper=self.keeper,
            clock=lambda: self.now,
            leads=lambda: self.lead,
            decider=self._decide,
            grace=20.0,
        )
        self.discover()

    def _decide(
        self,
        observation: Observation,
        settings: ScalingSettings,
        memory: Memory,
        ceiling: Mapping[Role, Ceiling] | None,
        now: float,
    ) -> tuple[Wanted, Memory]:
        self.seen.append(observation)
        receipt = Receipt("pool", now, (), (), (), (), "as the test wishes")
        return Wanted("pool", now, {Role.BOTH: self.wish}, receipt, self.held), memory

    def discover(self) -> None:
        """What exists is in the fleet, and well."""
        fleet = self.router.fleet
        self.keeper.apply(
            Endpoint(one.name, f"http://{one.name}:80") for one in self.target.members
        )
        for state in fleet:
            fleet.observe_models(state.name, [ServedModel("m")], self.now)
            fleet.observe_health(state.name, True, self.now, "test")

    async def go(self, seconds: float, step: float = 0.5) -> None:
        """Let time pass: the controller's turns, the cluster's own work, discovery, sweeping."""
        end = self.now + seconds
        while self.now < end:
            self.now += step
            await self.controller.turn()
            self.target.reconcile(self.now)
            self.discover()
            self.keeper.sweep()

    @property
    def names(self) -> list[str]:
        """Who gets requests."""
        return [state.name for state in self.router.fleet.serving(None)]

    @property
    def replicas(self) -> Replicas:
        """As the latest decision was shown them."""
        return self.seen[-1].roles[Role.BOTH].replicas
