"""What a pool asks of the cluster: one replica of it, as a gang of roles with pods and devices.

A *gang* is one replica: all of its pods are placed, inside one domain where one is required, or
none is. A *role* (prefill, decode) has ``pods`` equal pods; each pod has one claim with requests
for devices. A *request* is met by ``count`` devices of one class, or by every device that matches
(``count`` None); it may name alternatives, best first. All pods of a role take the same
alternative, so that one claim template serves them, without alternatives in it.

Quantities are whole billionths of their base unit (`endpoints.allocation.quantity`). Levels of
the topology are named as the scheme in use names them (`endpoints.allocation.levels`), or by
their node label.
"""

from msgspec import Struct
from msgspec.structs import replace

DEFAULT_PRIORITY = 0
NODE_LEVEL = "host"


class Toleration(Struct, frozen=True):
    """What taint a pod or a request puts up with; empty key: any, empty effect: any.

    ``operator`` is Exists or Equal. ``seconds`` bounds how long NoExecute is put up with after
    the taint came; None: for ever.
    """

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""
    seconds: int | None = None


class DeviceOption(Struct, frozen=True):
    """One way to meet a request; ``name`` is empty where there are no alternatives.

    ``count`` None asks for every matching device of the node's pools. ``capacity`` holds what
    each device must have at least, or what is taken of it where it can be shared; its names are
    qualified (``domain/name``) or belong to the device's driver.
    """

    device_class: str
    name: str = ""
    count: int | None = 1
    selectors: tuple[str, ...] = ()
    capacity: tuple[tuple[str, int], ...] = ()
    tolerations: tuple[Toleration, ...] = ()


class DeviceRequest(Struct, frozen=True):
    """One request of a claim. ``options`` are tried in order; there is at least one.

    With ``admin_access`` devices are looked at, not used: they may be in use, and stay free.
    """

    name: str
    options: tuple[DeviceOption, ...]
    admin_access: bool = False


class DeviceConstraint(Struct, frozen=True):
    """Devices of these requests (all, when empty) have one value of the attribute in common.

    ``distinct``: no two of them share a value. The attribute's name is fully qualified.
    """

    attribute: str
    requests: tuple[str, ...] = ()
    distinct: bool = False


class Reach(Struct, frozen=True):
    """How far apart pods may be: all in one domain of ``required``; better one of ``preferred``.

    ``required`` None: anywhere, pods without any common domain too.
    """

    required: str | None = None
    preferred: str | None = None


class RoleNeed(Struct, frozen=True):
    """One role: so many equal pods. ``node_selector`` and ``tolerations`` are the pod's."""

    name: str
    pods: int
    requests: tuple[DeviceRequest, ...]
    constraints: tuple[DeviceConstraint, ...] = ()
    reach: Reach = Reach()
    node_selector: tuple[tuple[str, str], ...] = ()
    tolerations: tuple[Toleration, ...] = ()


class Gang(Struct, frozen=True):
    """One replica of a pool. ``reach`` is of all pods; each role may ask for less far on its own.

    ``spread``: a level over whose domains the pool's replicas are spread. ``near``: a level that
    roles should share, as key-value caches move between them. ``preempts``: idle replicas of
    pools with lower ``priority`` may be taken away for it. ``shares``: of the same priority, too,
    where they are better served.
    """

    pool: str
    roles: tuple[RoleNeed, ...]
    namespace: str = "default"
    reach: Reach = Reach()
    near: str | None = None
    spread: str | None = None
    priority: int = DEFAULT_PRIORITY
    preempts: bool = False
    shares: bool = False

    @property
    def pods(self) -> int:
        """How many pods one replica has."""
        return sum(role.pods for role in self.roles)

    def sized(self, pods: dict[str, int]) -> "Gang":
        """The gang with other numbers of pods by role; a role with none is left out.

        Raises KeyError for a role that is not there, ValueError when no pod is left.
        """
        unknown = pods.keys() - {role.name for role in self.roles}
        if unknown:
            raise KeyError(f"{self.pool} has no role {', '.join(sorted(unknown))}")
        roles = tuple(
            replace(role, pods=pods.get(role.name, role.pods))
            for role in self.roles
            if pods.get(role.name, role.pods) > 0
        )
        if not roles:
            raise ValueError(f"{self.pool}: a gang without pods")
        return replace(self, roles=roles)
