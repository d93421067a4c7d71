"""What operators see of scaling: the page `/debug/scaling`, and metrics.

The page says for each pool what was wanted and why (the decision's receipt), what its targets
are, who leaves and how far they are, who waits, and what the loop did lately.
"""

from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from endpoints.scaling.controller import Controller
from endpoints.scaling.parties import RoleTarget
from endpoints.scaling.receipt import Receipt
from endpoints.scaling.role import Role
from endpoints.scaling.shrinking import Going
from gateway.waiting import WaitingRoom, WaitingRooms

View = dict[str, object]
_ROLE = ("pool", "role")
_STATES = ("ready", "starting", "pending", "failing", "draining")


def scaling_view(
    controllers: Mapping[str, Controller], rooms: WaitingRooms, now: float
) -> dict[str, View]:
    """The page, by pool. Ages and durations in seconds."""
    return {
        name: _pool_view(controller, rooms.of(name), now)
        for name, controller in controllers.items()
    }


def _pool_view(controller: Controller, room: WaitingRoom | None, now: float) -> View:
    wanted = controller.wanted
    return {
        "leading": controller.leading,
        "dry_run": controller.dry_run,
        "held": None if wanted is None else wanted.held,
        "decided_seconds_ago": None if wanted is None else now - wanted.at,
        "summary": None if wanted is None else wanted.receipt.summary,
        "roles": {
            role.value: _role_view(controller, role, one, now)
            for role, one in controller.roles.items()
        },
        "waiting": None if room is None else _room_view(room, now),
        "receipt": None if wanted is None else _receipt_view(wanted.receipt),
        "journal": [
            {
                "seconds_ago": now - entry.at,
                "role": None if entry.role is None else entry.role.value,
                "what": entry.what,
            }
            for entry in reversed(controller.journal)
        ],
    }


def _role_view(controller: Controller, role: Role, one: RoleTarget, now: float) -> View:
    target, wanted = one.target, controller.wanted
    replicas = controller.replicas.get(role)
    return {
        "target": one.actuator.name,
        "wanted": None if wanted is None else wanted.replicas.get(role),
        "replicas": None if target is None else target.replicas,
        "counted": None
        if replicas is None
        else {state: getattr(replicas, state) for state in _STATES},
        "scaled_by": one.conflict,
        "trouble": one.trouble,
        "leaving": [_going_view(going, now) for going in one.shrinking.going],
        "ended": one.shrinking.ended,
        "requests_cut": one.shrinking.cut,
    }


def _going_view(going: Going, now: float) -> View:
    return {
        "member": going.member.name,
        "reason": going.reason,
        "leaving_seconds": now - going.since,
        "drained": going.drained_at is not None,
        "ending": going.ending_since is not None,
    }


def _room_view(room: WaitingRoom, now: float) -> View:
    oldest = room.oldest
    return {
        "requests": len(room),
        "oldest_seconds": None if oldest is None else now - oldest,
        "closed": room.closed,
        "models": sorted(room.models),
        "served": room.served,
        "refused_full": room.full,
        "gave_up": room.gave_up,
        "clients_left": room.left,
    }


def _receipt_view(receipt: Receipt) -> View:
    return {
        "inputs": [
            {
                "role": one.role.value,
                "name": one.name,
                "standing": one.standing,
                "value": one.value,
                "age": one.age,
            }
            for one in receipt.inputs
        ],
        "candidates": [
            {
                "role": one.role.value,
                "name": one.name,
                "replicas": one.replicas,
                "reason": one.reason,
            }
            for one in receipt.candidates
        ],
        "bounds": [
            {
                "role": one.role.value,
                "name": one.name,
                "before": one.before,
                "after": one.after,
                "reason": one.reason,
            }
            for one in receipt.bounds
        ],
        "would_change": list(receipt.would_change),
    }


class ScalingMetrics(Collector):
    """Wanted and counted replicas, what was changed, who waits."""

    def __init__(self, controllers: Mapping[str, Controller], rooms: WaitingRooms) -> None:
        self._controllers = controllers
        self._rooms = rooms

    def collect(self) -> Iterator[Metric]:
        """The families."""
        yield from self._pools()
        yield from self._roles()
        yield from self._waiting()

    def _pools(self) -> Iterator[Metric]:
        leads = GaugeMetricFamily(
            "inferway_scaling_leader", "1 where this gateway acts for the pool.", labels=("pool",)
        )
        held = GaugeMetricFamily(
            "inferway_scaling_held", "1 while nothing may be changed.", labels=("pool",)
        )
        for name, controller in list(self._controllers.items()):
            leads.add_metric((name,), float(controller.leading))
            wanted = controller.wanted
            owned = any(one.conflict is not None for one in controller.roles.values())
            stands = owned or (wanted is not None and wanted.held is not None)
            held.add_metric((name,), float(stands))
        yield leads
        yield held

    def _roles(self) -> Iterator[Metric]:
        counted = GaugeMetricFamily(
            "inferway_scaling_replicas",
            "Replicas by what they are doing, as the latest decision saw them.",
            labels=(*_ROLE, "state"),
        )
        changes = CounterMetricFamily(
            "inferway_scaling_changes",
            "Changes of a target's number of replicas.",
            labels=(*_ROLE, "direction"),
        )
        for name, role, one, controller in self._each():
            replicas = controller.replicas.get(role)
            for state in _STATES if replicas is not None else ():
                counted.add_metric((name, role.value, state), getattr(replicas, state))
            for direction, count in one.changes.items():
                changes.add_metric((name, role.value, direction), count)
        yield self._gauge("wanted_replicas", "Replicas that should be there.", _wanted)
        yield self._gauge("target_replicas", "Replicas that the target asks for.", _asked)
        yield self._gauge("trouble", "1 while the target can't be read or changed.", _trouble)
        yield counted
        yield changes
        yield self._counter("ended", "Members that were drained and ended.", _ended)
        yield self._counter(
            "cut_requests", "Requests still in flight when a member's grace was over.", _cut
        )

    def _waiting(self) -> Iterator[Metric]:
        now = GaugeMetricFamily(
            "inferway_waiting_requests",
            "Requests that wait for their pool's first endpoint.",
            labels=("pool",),
        )
        over = CounterMetricFamily(
            "inferway_waiting_over",
            "Requests that waited, or could not, by what became of them.",
            labels=("pool", "outcome"),
        )
        seconds = CounterMetricFamily(
            "inferway_waiting_seconds",
            "Seconds that requests waited which an endpoint then took.",
            labels=("pool",),
        )
        for room in self._rooms:
            now.add_metric((room.pool,), len(room))
            seconds.add_metric((room.pool,), room.waited_seconds)
            for outcome, count in (
                ("served", room.served),
                ("full", room.full),
                ("gave_up", room.gave_up),
                ("client_left", room.left),
            ):
                over.add_metric((room.pool, outcome), count)
        yield now
        yield over
        yield seconds

    def _gauge(
        self, name: str, text: str, of: Callable[[Controller, Role, RoleTarget], float | None]
    ) -> Metric:
        family = GaugeMetricFamily(f"inferway_scaling_{name}", text, labels=_ROLE)
        for pool, role, one, controller in self._each():
            value = of(controller, role, one)
            if value is not None:
                family.add_metric((pool, role.value), value)
        return family

    def _counter(self, name: str, text: str, of: Callable[[RoleTarget], int]) -> Metric:
        family = CounterMetricFamily(f"inferway_scaling_{name}", text, labels=_ROLE)
        for pool, role, one, _ in self._each():
            family.add_metric((pool, role.value), of(one))
        return family

    def _each(self) -> Iterator[tuple[str, Role, RoleTarget, Controller]]:
        for name, controller in list(self._controllers.items()):
            for role, one in controller.roles.items():
                yield name, role, one, controller


def _wanted(controller: Controller, role: Role, _one: RoleTarget) -> float | None:
    return None if controller.wanted is None else controller.wanted.replicas.get(role)


def _asked(_controller: Controller, _role: Role, one: RoleTarget) -> float | None:
    return None if one.target is None else one.target.replicas


def _trouble(_controller: Controller, _role: Role, one: RoleTarget) -> float:
    return float(one.trouble is not None)


def _ended(one: RoleTarget) -> int:
    return one.shrinking.ended


def _cut(one: RoleTarget) -> int:
    return one.shrinking.cut
