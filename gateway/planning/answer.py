"""What `inferway plan` found, and its JSON."""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from endpoints.allocation.levels import Scheme
from endpoints.allocation.manifest import Capacity
from endpoints.allocation.plan import Domain, Feasible, Grant, NoPlan, Plan, PodPlan, Refusal
from endpoints.allocation.planner import Advice
from endpoints.allocation.quantity import written_quantity


class Answer(Struct, frozen=True):
    """Replicas that were placed, why the next one was not, and how many there could be."""

    capacity: Capacity
    scheme: Scheme
    placed: tuple[Plan, ...]
    refused: NoPlan | None
    feasible: Feasible
    advice: Advice | None
    notes: tuple[str, ...]
    counts: Mapping[str, int]


def as_json(answer: Answer) -> bytes:
    """Everything, as JSON."""
    feasible = answer.feasible
    refusals = answer.refused.refusals if answer.refused else None
    return msgspec.json.encode(
        {
            "pool": answer.capacity.gang.pool,
            "topology": answer.scheme.name,
            "objects": answer.counts,
            "notes": answer.notes,
            "feasible": {
                "now": feasible.now,
                "afterPreemption": feasible.after_preemption,
                "capped": feasible.capped,
                "reason": feasible.reason,
            },
            "placed": [_plan(one) for one in answer.placed],
            "refused": None
            if answer.refused is None
            else {
                "reason": answer.refused.reason,
                "domains": [_refusal(r) for r in refusals or ()],
            },
            "advice": None
            if answer.advice is None
            else {
                "pool": answer.advice.holding.pool,
                "replica": answer.advice.holding.replica,
                "to": [_pod(pod) for pod in answer.advice.moved.pods],
            },
        }
    )


def _plan(plan: Plan) -> dict[str, Any]:
    return {
        "domain": None if plan.domain is None else _domain(plan.domain),
        "roleDomains": {role: _domain(domain) for role, domain in plan.role_domains},
        "options": {f"{role}/{request}": option for (role, request), option in plan.options},
        "score": {term.name: term.value for term in plan.score},
        "cost": plan.cost,
        "candidates": plan.candidates,
        "evictions": [{"pool": one.pool, "replica": one.replica} for one in plan.evictions],
        "fragile": plan.fragile,
        "pods": [_pod(pod) for pod in plan.pods],
        "refused": [_refusal(one) for one in plan.refusals],
    }


def _pod(pod: PodPlan) -> dict[str, Any]:
    return {
        "role": pod.role,
        "index": pod.index,
        "node": pod.node,
        "domains": [_domain(one) for one in pod.domains],
        "claims": [_grant(one) for one in pod.grants],
    }


def _grant(grant: Grant) -> dict[str, Any]:
    return {
        "request": grant.request,
        "option": grant.option,
        "deviceClassName": grant.device_class,
        "adminAccess": grant.admin_access,
        "devices": [str(one) for one in grant.devices],
        "consumed": [
            None if one is None else {name: written_quantity(amount) for name, amount in one}
            for one in grant.consumed
        ],
    }


def _domain(domain: Domain) -> dict[str, str]:
    return {"level": domain.level, "value": domain.value, "label": domain.label}


def _refusal(refusal: Refusal) -> dict[str, Any]:
    return {
        "domain": None if refusal.domain is None else _domain(refusal.domain),
        "code": refusal.code,
        "reason": refusal.reason,
        "role": refusal.role,
        "possible": refusal.possible,
        "wanted": refusal.wanted,
    }
