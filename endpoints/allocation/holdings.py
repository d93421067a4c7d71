"""Which replicas hold devices now: what preemption and defragmentation may take or move."""

from msgspec import Struct

from endpoints.allocation.needs import Gang

POOL_LABEL = "inferway.dev/pool"
ROLE_LABEL = "inferway.dev/role"
REPLICA_LABEL = "inferway.dev/replica"
PRIORITY_ANNOTATION = "inferway.dev/priority"
IDLE_ANNOTATION = "inferway.dev/idle"


class Holding(Struct, frozen=True):
    """One replica of a pool that runs. ``claims`` are ``namespace/name`` of its ResourceClaims.

    ``idle``: it has no work and may be taken for a pool of higher priority. ``yields``: how many
    idle replicas of its pool may go for this pool of the same priority (`shares.yields`).
    ``going``: it is drained already, whatever becomes of this pool. ``movable``: it may be started
    elsewhere and drained here; ``gang`` is what it needs there.
    """

    pool: str
    replica: str
    priority: int
    claims: tuple[str, ...]
    idle: bool = False
    yields: int = 0
    going: bool = False
    movable: bool = True
    gang: Gang | None = None
