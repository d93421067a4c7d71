"""ResourceClaimTemplates: one a role and revision, without alternatives in it.

(More than one where `narrowing` tells pods' devices apart.)

What the planner chose of the alternatives is written as ``exactly``: a scheduler that chooses
for one pod after the other may choose so that a gang's last pod finds nothing
(kubernetes/kubernetes issue 138765).

``resource.k8s.io`` v1 and v1beta2 wrap a request in ``exactly``; v1beta1 writes it flat.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from endpoints.allocation.emission.identity import (
    Object,
    Owner,
    content_hash,
    owned,
    role_labels,
)
from endpoints.allocation.needs import DeviceConstraint, DeviceOption, RoleNeed, Toleration
from endpoints.allocation.plan import Plan
from endpoints.allocation.quantity import written_quantity

GROUP: Final = "resource.k8s.io"
KIND: Final = "ResourceClaimTemplate"
POD_CLAIM: Final = "devices"
"""What pods call their claim."""
_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


def chosen_options(plan: Plan, role: RoleNeed) -> dict[str, DeviceOption]:
    """What each request of the role takes."""
    chosen = dict(plan.options)
    found = {}
    for request in role.requests:
        name = chosen.get((role.name, request.name), request.options[0].name)
        found[request.name] = next(one for one in request.options if one.name == name)
    return found


def claim_spec(
    plan: Plan, role: RoleNeed, version: str, narrowed: Mapping[str, str] = _NOTHING
) -> Object:
    """``spec`` of the role's claims in that version of ``resource.k8s.io``."""
    options = chosen_options(plan, role)
    shared = {
        grant.request
        for pod in plan.pods_of(role.name)
        for grant in pod.grants
        if any(grant.consumed)
    }
    requests = []
    for request in role.requests:
        more = narrowed.get(request.name, "")
        body = _request(options[request.name], request.name in shared, more)
        if request.admin_access:
            body["adminAccess"] = True
        requests.append(
            {"name": request.name, **body}
            if version == "v1beta1"
            else {"name": request.name, "exactly": body}
        )
    devices: Object = {"requests": requests}
    constraints = list(_constraints(role.constraints, options))
    if constraints:
        devices["constraints"] = constraints
    return {"devices": devices}


def claim_template(
    owner: Owner,
    plan: Plan,
    role: RoleNeed,
    version: str = "v1",
    narrowed: Mapping[str, str] = _NOTHING,
) -> Object:
    """The template of the role's claims, named by what it says.

    ``narrowed``: by request, one more selector.
    """
    spec = claim_spec(plan, role, version, narrowed)
    labels = owner.labels() | role_labels(role.name)
    name = f"{owner.name}-{role.name}-{content_hash(spec)}"
    return owned(
        owner,
        {
            "apiVersion": f"{GROUP}/{version}",
            "kind": KIND,
            "metadata": {"name": name, "labels": labels},
            "spec": {"metadata": {"labels": labels}, "spec": spec},
        },
    )


def _request(option: DeviceOption, shared: bool, more: str) -> Object:
    """A device request; capacities are taken of a shared device, and only demanded of another."""
    body: Object = {"deviceClassName": option.device_class}
    if option.count is None:
        body["allocationMode"] = "All"
    else:
        body |= {"allocationMode": "ExactCount", "count": option.count}
    expressions = list(option.selectors)
    if option.capacity and shared:
        body["capacity"] = {
            "requests": {name: written_quantity(amount) for name, amount in option.capacity}
        }
    else:
        # The field ``capacity`` is behind a gate before 1.36 and would be dropped there silently;
        # a selector says the same of a device that is not shared.
        expressions += [has_capacity(name, amount) for name, amount in option.capacity]
    expressions += [more] if more else []
    if expressions:
        body["selectors"] = [{"cel": {"expression": one}} for one in expressions]
    if option.tolerations:
        body["tolerations"] = [written_toleration(one) for one in option.tolerations]
    return body


def has_capacity(name: str, amount: int) -> str:
    """CEL: the device has so much (nano units) of a capacity, which may be unqualified.

    An unknown name would be an error that aborts the whole allocation, so it is asked for first.
    """
    domain, slash, own = name.rpartition("/")
    holder = f'device.capacity["{domain}"]' if slash else "device.capacity[device.driver]"
    written = written_quantity(amount)
    return f'"{own}" in {holder} && {holder}["{own}"].compareTo(quantity("{written}")) >= 0'


def written_toleration(one: Toleration) -> Object:
    """As pods and requests write it."""
    written: Object = {"operator": one.operator}
    for name, value in (("key", one.key), ("value", one.value), ("effect", one.effect)):
        if value:
            written[name] = value
    if one.seconds is not None:
        written["tolerationSeconds"] = one.seconds
    return written


def _constraints(
    constraints: Iterable[DeviceConstraint], options: dict[str, DeviceOption]
) -> Iterable[Object]:
    """Constraints name requests or ``request/alternative``; those not chosen are not there."""
    for one in constraints:
        written: Object = {"distinctAttribute" if one.distinct else "matchAttribute": one.attribute}
        if one.requests:
            named = []
            for request in one.requests:
                main, _, alternative = request.partition("/")
                if not alternative or options[main].name == alternative:
                    named.append(main)
            if not named:
                continue
            written["requests"] = list(dict.fromkeys(named))
        yield written
