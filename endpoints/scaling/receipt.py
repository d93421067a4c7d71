"""The receipt of a scaling decision: what was known, what was considered, what bound it.

It is made with the decision and holds plain values only, to be logged, shown and compared.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from endpoints.scaling.role import Role


@dataclass(frozen=True, slots=True)
class Input:
    """One signal as it was: ``standing`` is value, stale or missing; ``age`` in seconds."""

    role: Role
    name: str
    standing: str
    value: float | None
    age: float | None


@dataclass(frozen=True, slots=True)
class Candidate:
    """How many replicas one line of thought would have, and why; None: it can't tell."""

    role: Role
    name: str
    replicas: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class Bound:
    """A rule that changed the number: ``name`` is the setting or the limit behind it."""

    role: Role
    name: str
    before: int
    after: int
    reason: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """Why a pool is to have the replicas it is to have.

    ``bounds`` stand in the order in which they applied; ``would_change`` says in words what
    would have to be different for another outcome.
    """

    pool: str
    at: float
    inputs: Sequence[Input]
    candidates: Sequence[Candidate]
    bounds: Sequence[Bound]
    would_change: Sequence[str]
    summary: str

    def bound_by(self, role: Role) -> str | None:
        """The name of the last rule that changed the role's number; None when none did."""
        names = [bound.name for bound in self.bounds if bound.role is role]
        return names[-1] if names else None
