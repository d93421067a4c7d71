"""What decisions remember of earlier ones. Immutable: each decision makes the next memory."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from endpoints.scaling.role import Role


@dataclass(frozen=True, slots=True)
class Change:
    """A target that was changed: when, from what, to what."""

    at: float
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class RoleMemory:
    """One role.

    ``opinions``: (when, replicas) that the numbers called for, before the pace; ``changes`` that
    were decided; ``asked``: targets asked for lately, by which somebody else's are told from
    ours; ``seen``: the target last read; ``edited_at``: when somebody else last changed it, and
    ``edits`` how often in a row. ``values``: a metric over time, ``panic_until`` and
    ``panic_peak``: of the policies that need them.
    """

    opinions: tuple[tuple[float, int], ...] = ()
    changes: tuple[Change, ...] = ()
    asked: tuple[int, ...] = ()
    seen: int | None = None
    edited_at: float | None = None
    edits: int = 0
    values: tuple[tuple[float, float], ...] = ()
    panic_until: float | None = None
    panic_peak: int = 0


@dataclass(frozen=True, slots=True)
class Memory:
    """A pool's; an empty one knows nothing, and is right after a start or a change of leader."""

    at: float | None = None
    roles: Mapping[Role, RoleMemory] = field(default_factory=lambda: MappingProxyType({}))

    def of(self, role: Role) -> RoleMemory:
        """What is remembered of a role."""
        return self.roles.get(role, RoleMemory())

    def since(self, now: float, keep: float) -> "Memory":
        """Without what is older than ``keep`` seconds.

        After the clock went back, so do all times: what happened keeps its age.
        """
        if self.at is None or self.at <= now:
            return replace(
                self, roles={role: _since(one, now, keep) for role, one in self.roles.items()}
            )
        back = self.at - now
        moved = {role: _moved(one, back) for role, one in self.roles.items()}
        return Memory(now, moved).since(now, keep)


def _since(one: RoleMemory, now: float, keep: float) -> RoleMemory:
    return replace(
        one,
        opinions=tuple(opinion for opinion in one.opinions if opinion[0] >= now - keep),
        changes=tuple(change for change in one.changes if change.at >= now - keep),
        values=tuple(value for value in one.values if value[0] >= now - keep),
    )


def _moved(one: RoleMemory, back: float) -> RoleMemory:
    """The same with all times moved back: the clock was, and what happened keeps its age."""
    return replace(
        one,
        opinions=tuple((at - back, count) for at, count in one.opinions),
        changes=tuple(replace(change, at=change.at - back) for change in one.changes),
        values=tuple((at - back, value) for at, value in one.values),
        edited_at=None if one.edited_at is None else one.edited_at - back,
        panic_until=None if one.panic_until is None else one.panic_until - back,
    )
