"""Telling somebody else's changes of a target from our own, and letting them stand.

A target that was read and is neither what it was nor anything that we lately asked for was set
by a person or another controller. It stands for a while, and each further change renews that,
so with a controller that goes on changing it we never fight: we hold, and say so.
"""

from dataclasses import replace

from endpoints.scaling.memory import RoleMemory
from endpoints.scaling.role import Role

MANY_EDITS = 3
"""Changes by others in a row from which it is a fight rather than an edit."""


def noticed(memory: RoleMemory, target: int | None, now: float, hold: float) -> RoleMemory:
    """The memory with what the target says now; None: it couldn't be read."""
    if target is None:
        return memory
    over = memory.edited_at is not None and now - memory.edited_at >= hold
    if over:
        memory = replace(memory, edited_at=None, edits=0)
    foreign = memory.seen is not None and target != memory.seen and target not in memory.asked
    if foreign and hold > 0.0:
        return replace(
            memory,
            seen=target,
            edited_at=now,
            edits=memory.edits + 1,
            asked=(),
            changes=(),
            opinions=(),
        )
    if memory.asked and target == memory.asked[-1]:
        return replace(memory, seen=target, asked=(target,))  # what was asked before is history
    return replace(memory, seen=target)


def standing(memory: RoleMemory, role: Role, now: float, hold: float) -> str | None:
    """Why the target must stay as somebody else set it; None when it need not."""
    if memory.edited_at is None or now - memory.edited_at >= hold:
        return None
    left = hold - (now - memory.edited_at)
    who = f"somebody else set {role.value} to {memory.seen}"
    if memory.edits >= MANY_EDITS:
        who = (
            f"something else keeps changing {role.value} ({memory.edits} times, now {memory.seen})"
        )
    return f"{who}: it stands for another {left:.0f} s"
