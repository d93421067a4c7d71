"""A pod template with what the plan adds: claims, place, tolerations, labels.

The template is the user's. What it says already stays: its own affinity holds besides ours, its
own tolerations and labels remain, and a container that names the claim itself keeps its way.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

from endpoints.allocation.emission.claims import POD_CLAIM, written_toleration
from endpoints.allocation.emission.identity import EmissionError, Object
from endpoints.allocation.needs import RoleNeed
from endpoints.allocation.plan import Domain, Plan

NODE_PIN: Final = "Node"


class Place(Struct, frozen=True):
    """Where pods may go: on one of ``nodes`` (any, when empty), inside all of ``domains``."""

    domains: tuple[Domain, ...] = ()
    nodes: tuple[str, ...] = ()


class PodPatch(Struct, frozen=True):
    """What is added to a template. ``fields`` are put into the pod's ``spec`` as they are."""

    claim_template: str | None
    place: Place
    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}
    fields: Mapping[str, object] = {}


def required_domains(plan: Plan, role: str) -> tuple[Domain, ...]:
    """The domains that all pods of the role must be in, each once, the gang's first."""
    found = [] if plan.domain is None else [plan.domain]
    found += [domain for name, domain in plan.role_domains if name == role]
    return tuple(dict.fromkeys(found))


def place_of(plan: Plan, role: str, pin: str, index: int | None = None) -> Place:
    """Where the role's pods may go; with an ``index``, only that one.

    Pinned to nodes, pods with one template may share the planned nodes as the scheduler likes.
    """
    domains = required_domains(plan, role)
    if pin != NODE_PIN:
        return Place(domains)
    nodes = [pod.node for pod in plan.pods_of(role) if index is None or pod.index == index]
    return Place(domains, tuple(dict.fromkeys(nodes)))


def patched(template: Object, role: RoleNeed, patch: PodPatch) -> Object:
    """The template (``metadata``, ``spec``) for the role's pods. EmissionError when it can't be."""
    made = copy.deepcopy(template)
    metadata, spec = made.setdefault("metadata", {}), made.setdefault("spec", {})
    containers = spec.get("containers")
    if not containers:
        raise EmissionError(
            f"role {role.name}: its template has no containers; write spec.roles[].template.spec"
        )
    if "nodeName" in spec:
        raise EmissionError(
            f"role {role.name}: its template sets nodeName, which goes past the scheduler, so "
            "that its claims would never be allocated; leave it out"
        )
    metadata["labels"] = {**metadata.get("labels", {}), **patch.labels}
    if patch.annotations:
        metadata["annotations"] = {**metadata.get("annotations", {}), **patch.annotations}
    if patch.claim_template is not None:
        _claim(spec, containers, patch.claim_template)
    if role.node_selector:
        spec["nodeSelector"] = {**spec.get("nodeSelector", {}), **dict(role.node_selector)}
    if role.tolerations:
        ours = [written_toleration(one) for one in role.tolerations]
        theirs = spec.get("tolerations", [])
        spec["tolerations"] = theirs + [one for one in ours if one not in theirs]
    _pin(spec, patch.place)
    spec.update(patch.fields)
    return made


def _claim(spec: Object, containers: Sequence[Object], template: str) -> None:
    claims = [one for one in spec.get("resourceClaims", ()) if one["name"] != POD_CLAIM]
    spec["resourceClaims"] = [
        *claims,
        {"name": POD_CLAIM, "resourceClaimTemplateName": template},
    ]
    named = [
        claim["name"]
        for container in (*containers, *spec.get("initContainers", ()))
        for claim in container.get("resources", {}).get("claims", ())
    ]
    if POD_CLAIM not in named:
        containers[0].setdefault("resources", {}).setdefault("claims", []).append(
            {"name": POD_CLAIM}
        )


def _pin(spec: Object, place: Place) -> None:
    """Required node affinity; terms are alternatives, so ours go into each of the template's."""
    expressions = [
        {"key": domain.label, "operator": "In", "values": [domain.value]}
        for domain in place.domains
    ]
    fields: list[list[Object]] = [
        [{"key": "metadata.name", "operator": "In", "values": [node]}] for node in place.nodes
    ]
    if not expressions and not fields:
        return
    affinity = spec.setdefault("affinity", {}).setdefault("nodeAffinity", {})
    required = affinity.setdefault("requiredDuringSchedulingIgnoredDuringExecution", {})
    terms = []
    for theirs in required.get("nodeSelectorTerms") or [{}]:
        for field in fields or [[]]:
            term = copy.deepcopy(theirs)
            if expressions:
                term["matchExpressions"] = term.get("matchExpressions", []) + expressions
            if field:
                term["matchFields"] = term.get("matchFields", []) + field
            terms.append(term)
    required["nodeSelectorTerms"] = terms
