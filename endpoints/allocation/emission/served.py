"""Which APIs the cluster serves, and which of them keeps a gang whole. Pure.

=================  ==========================================  ===================================
`GangApi`          taken by ``Auto`` when this is served        gang over all roles of a replica
=================  ==========================================  ===================================
KAI                ``podgroups.scheduling.run.ai`` v2alpha2     yes
NATIVE             ``podgroups.scheduling.k8s.io``              yes
GROVE              ``podcliquesets.grove.io``                   yes
LEADER_WORKER_SET  never by itself                              each role on its own
PLAIN              nothing of these                             no: pods are pinned where they fit
=================  ==========================================  ===================================

A served API says that somebody installed it, not that its scheduler runs; the watchdog sees that.
"""

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Final

from msgspec import Struct


class GangApi(Enum):
    """What keeps gangs whole, as InferenceCapacity's ``scheduler.type`` calls it."""

    KAI = "KAI"
    NATIVE = "Native"
    GROVE = "Grove"
    LEADER_WORKER_SET = "LeaderWorkerSet"
    PLAIN = "Plain"


class NotServedError(ValueError):
    """The scheduler that is asked for is not installed; the message says what is missing."""


AUTO: Final = "Auto"
_NEEDS: Final[Mapping[GangApi, tuple[str, str, tuple[str, ...]]]] = {
    GangApi.KAI: ("scheduling.run.ai", "podgroups", ("v2alpha2",)),
    # v1alpha3 has the shape of v1beta1; v1alpha1 has no PodGroup objects, only Workloads.
    GangApi.NATIVE: (
        "scheduling.k8s.io",
        "workloads",
        ("v1beta1", "v1alpha3", "v1alpha2", "v1alpha1"),
    ),
    GangApi.GROVE: ("grove.io", "podcliquesets", ("v1alpha1",)),
    GangApi.LEADER_WORKER_SET: ("leaderworkerset.x-k8s.io", "leaderworkersets", ("v1",)),
}
_BY_ITSELF: Final = (GangApi.KAI, GangApi.NATIVE, GangApi.GROVE)
_CLAIMS: Final = ("resource.k8s.io", "resourceclaimtemplates", ("v1", "v1beta2", "v1beta1"))


class Served(Struct, frozen=True):
    """Every (group, version, plural) that discovery found of the groups that matter here."""

    resources: frozenset[tuple[str, str, str]]

    def version(self, group: str, plural: str, versions: Iterable[str]) -> str | None:
        """The first of ``versions`` that is served; None when none is."""
        return next(
            (one for one in versions if (group, one, plural) in self.resources),
            None,
        )

    def claims(self) -> str:
        """The version of ``resource.k8s.io`` to use. NotServedError when there is none."""
        found = self.version(*_CLAIMS)
        if found is None:
            raise NotServedError(
                "the cluster serves no resource.k8s.io with ResourceClaimTemplates; dynamic "
                "resource allocation is on by default from Kubernetes 1.34"
            )
        return found


GROUPS: Final = (_CLAIMS[0], *(group for group, _, _ in _NEEDS.values()))
"""The API groups whose discovery is needed."""


class Gangs(Struct, frozen=True):
    """What keeps gangs whole here, and the version of its API ("" for plain pods)."""

    api: GangApi
    version: str = ""


def gangs_of(served: Served, asked: str = AUTO) -> Gangs:
    """What ``scheduler.type`` means in this cluster. NotServedError when it is not installed."""
    if asked != AUTO:
        api = GangApi(asked)
        if api is GangApi.PLAIN:
            return Gangs(api)
        group, plural, versions = _NEEDS[api]
        version = served.version(group, plural, versions)
        if version is None:
            raise NotServedError(
                f"scheduler.type is {asked}, but the cluster serves no {plural}.{group} in "
                f"{' or '.join(versions)}; install it, or set scheduler.type to Auto"
            )
        return Gangs(api, version)
    for api in _BY_ITSELF:
        version = served.version(*_NEEDS[api])
        if version is not None:
            return Gangs(api, version)
    return Gangs(GangApi.PLAIN)
