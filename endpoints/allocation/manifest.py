"""An ``InferenceCapacity`` (``inferway.dev/v1alpha1``), as YAML or the API server's JSON, checked.

What the document says of one replica becomes a `Gang`; bounds, objectives, scheduler and budget
stay with it in `Capacity`. Requests are written as a ResourceClaim writes them, flat.
"""

import re
from collections.abc import Iterable, Mapping

import msgspec
import yaml
from msgspec import Struct

from endpoints.allocation import needs
from endpoints.allocation.document import (
    CapacitySpec,
    ConstraintSpec,
    OptionSpec,
    RequestSpec,
    RoleSpec,
    TolerationSpec,
)
from endpoints.allocation.quantity import parse_quantity

API_VERSION = "inferway.dev/v1alpha1"
KIND = "InferenceCapacity"
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_QUALIFIED = re.compile(r"([a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?/)?[A-Za-z_][A-Za-z0-9_]{0,31}")
_WHERE = re.compile(r" - at `(key in )?\$(\.?\.\.\.)?(?P<path>[^`]*)`$")
_MOST_REQUESTS = 32
_MOST_OPTIONS = 8
_MOST_DEVICES = 32


class ManifestError(ValueError):
    """A document that can't be used: all that is wrong, each with its field."""

    def __init__(self, source: str, problems: Iterable[str]) -> None:
        self.source = source
        self.problems = tuple(problems)
        super().__init__(source, self.problems)

    def __str__(self) -> str:
        return "\n  ".join([f"{self.source} can't be used:", *self.problems])


class Capacity(Struct, frozen=True):
    """A checked document: what one replica needs, and all else that is said of the pool."""

    name: str
    namespace: str
    gang: needs.Gang
    spec: CapacitySpec


def capacity_from_yaml(text: str, source: str = "the file") -> Capacity:
    """The one document in a YAML text. Raises ManifestError."""
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ManifestError(source, [f"it is no YAML: {error}"]) from None
    return capacity_from(document, source)


def capacity_from(document: object, source: str = "the object") -> Capacity:
    """A document that is read already. Raises ManifestError that names every field in question."""
    if not isinstance(document, Mapping):
        raise ManifestError(source, ["it is no mapping; one document is expected"])
    problems = []
    if document.get("apiVersion") != API_VERSION:
        problems.append(f"apiVersion: is {document.get('apiVersion')!r}; write {API_VERSION}")
    if document.get("kind") != KIND:
        problems.append(f"kind: is {document.get('kind')!r}; write {KIND}")
    metadata = document.get("metadata")
    name = metadata.get("name") if isinstance(metadata, Mapping) else None
    namespace = metadata.get("namespace", "default") if isinstance(metadata, Mapping) else None
    if not isinstance(name, str) or not name:
        problems.append("metadata.name: is missing")
    if not isinstance(namespace, str | None):
        problems.append("metadata.namespace: is no text")
    if problems:
        raise ManifestError(source, problems)
    try:
        spec = msgspec.convert(document.get("spec"), CapacitySpec)
    except msgspec.ValidationError as error:
        raise ManifestError(source, [_located(str(error))]) from None
    gang, problems = _gang(str(name), str(namespace), spec)
    if problems:
        raise ManifestError(source, problems)
    return Capacity(str(name), str(namespace), gang, spec)


def _located(message: str) -> str:
    found = _WHERE.search(message)
    if found is None:
        return f"spec: {message}"
    return f"spec{found['path']}: {message[: found.start()]}"


def _gang(name: str, namespace: str, spec: CapacitySpec) -> tuple[needs.Gang, list[str]]:
    problems: list[str] = []
    if not spec.roles:
        problems.append("spec.roles: is empty; name at least one role")
    _unique(problems, "spec.roles", [role.name for role in spec.roles])
    bounds = spec.replicas
    if bounds.min < 0:
        problems.append(f"spec.replicas.min: is {bounds.min}; write 0 or more")
    if bounds.max is not None and bounds.max < max(bounds.min, 1):
        problems.append(f"spec.replicas.max: is {bounds.max}; write {max(bounds.min, 1)} or more")
    if bounds.wanted is not None and not 0 <= bounds.wanted <= (bounds.max or bounds.wanted):
        right = "0 or more" if bounds.max is None else f"0 to {bounds.max}"
        problems.append(f"spec.replicas.wanted: is {bounds.wanted}; write {right}")
    for key, bound in (
        ("budget.devices", spec.budget.devices),
        ("budget.costPerHour", spec.budget.cost_per_hour),
        ("slo.ttftSeconds", spec.slo.ttft_seconds),
        ("slo.itlSeconds", spec.slo.itl_seconds),
        ("slo.attainment", spec.slo.attainment),
    ):
        if bound is not None and bound <= 0:
            problems.append(f"spec.{key}: is {bound}; write more than 0, or leave it out")
    if spec.slo.attainment is not None and spec.slo.attainment > 1:
        problems.append(f"spec.slo.attainment: is {spec.slo.attainment}; write a share up to 1")
    topology = spec.topology
    roles = tuple(
        _role(problems, f"spec.roles[{index}]", role) for index, role in enumerate(spec.roles)
    )
    gang = needs.Gang(
        pool=spec.pool_ref.name if spec.pool_ref else name,
        roles=roles,
        namespace=namespace,
        reach=needs.Reach(topology.required, topology.preferred),
        near=topology.near,
        spread=topology.spread,
        priority=spec.priority,
        preempts=spec.preemption != "Never",
        shares=spec.preemption == "FairShare",
    )
    return gang, problems


def _role(problems: list[str], at: str, role: RoleSpec) -> needs.RoleNeed:
    _label(problems, f"{at}.name", role.name)
    if role.pods < 1:
        problems.append(f"{at}.pods: is {role.pods}; write 1 or more")
    if len(role.devices) > _MOST_REQUESTS:
        problems.append(f"{at}.devices: a claim holds at most {_MOST_REQUESTS} requests")
    _unique(problems, f"{at}.devices", [request.name for request in role.devices])
    requests = tuple(
        _request(problems, f"{at}.devices[{index}]", request)
        for index, request in enumerate(role.devices)
    )
    most = sum(max((one.count or 1 for one in request.options), default=0) for request in requests)
    if most > _MOST_DEVICES:
        problems.append(
            f"{at}.devices: ask for {most} devices a pod; one claim can have {_MOST_DEVICES}"
        )
    known = {request.name for request in requests} | {
        f"{request.name}/{option.name}" for request in requests for option in request.options
    }
    return needs.RoleNeed(
        name=role.name,
        pods=role.pods,
        requests=requests,
        constraints=tuple(
            _constraint(problems, f"{at}.constraints[{index}]", one, known)
            for index, one in enumerate(role.constraints)
        ),
        reach=needs.Reach(role.topology.required, role.topology.preferred),
        node_selector=tuple(sorted(role.node_selector.items())),
        tolerations=_tolerations(problems, f"{at}.tolerations", role.tolerations),
    )


def _request(problems: list[str], at: str, spec: RequestSpec) -> needs.DeviceRequest:
    _label(problems, f"{at}.name", spec.name)
    if spec.first_available:
        flat = RequestSpec(spec.name, first_available=spec.first_available)
        if spec != flat:
            problems.append(
                f"{at}: with firstAvailable, each alternative says what it needs; "
                "only name stands beside it"
            )
        if len(spec.first_available) > _MOST_OPTIONS:
            problems.append(f"{at}.firstAvailable: holds more than {_MOST_OPTIONS} alternatives")
        _unique(problems, f"{at}.firstAvailable", [one.name for one in spec.first_available])
        options = []
        for index, one in enumerate(spec.first_available):
            _label(problems, f"{at}.firstAvailable[{index}].name", one.name)
            options.append(_option(problems, f"{at}.firstAvailable[{index}]", one, one.name))
        return needs.DeviceRequest(spec.name, tuple(options))
    if spec.device_class_name is None:
        problems.append(f"{at}: deviceClassName or firstAvailable is missing")
    return needs.DeviceRequest(spec.name, (_option(problems, at, spec, ""),), spec.admin_access)


def _option(
    problems: list[str], at: str, spec: RequestSpec | OptionSpec, name: str
) -> needs.DeviceOption:
    every = spec.allocation_mode == "All"
    if every and spec.count is not None:
        problems.append(f"{at}.count: can't stand beside allocationMode All; leave it out")
    if spec.count is not None and spec.count < 1:
        problems.append(f"{at}.count: is {spec.count}; write 1 or more")
    capacity = []
    for key, value in spec.capacity.requests.items():
        if not _QUALIFIED.fullmatch(key):
            problems.append(f"{at}.capacity.requests: {key!r} is no capacity's name")
        try:
            amount = parse_quantity(value)
        except ValueError as error:
            problems.append(f"{at}.capacity.requests[{key}]: {error}")
            continue
        if amount < 0:
            problems.append(f"{at}.capacity.requests[{key}]: is {value}; write 0 or more")
        capacity.append((key, amount))
    return needs.DeviceOption(
        device_class=spec.device_class_name or "",
        name=name,
        count=None if every else (1 if spec.count is None else spec.count),
        selectors=tuple(
            one if isinstance(one, str) else one.cel.expression for one in spec.selectors
        ),
        capacity=tuple(capacity),
        tolerations=_tolerations(problems, f"{at}.tolerations", spec.tolerations),
    )


def _constraint(
    problems: list[str], at: str, spec: ConstraintSpec, known: set[str]
) -> needs.DeviceConstraint:
    attribute = spec.match_attribute or spec.distinct_attribute or ""
    if bool(spec.match_attribute) == bool(spec.distinct_attribute):
        problems.append(f"{at}: write one of matchAttribute and distinctAttribute")
    elif "/" not in attribute or not _QUALIFIED.fullmatch(attribute):
        problems.append(f"{at}: {attribute!r} is no attribute's full name, such as domain/name")
    problems += [
        f"{at}.requests: there is no request {request!r}"
        for request in spec.requests
        if request not in known
    ]
    return needs.DeviceConstraint(attribute, spec.requests, distinct=spec.match_attribute is None)


def _tolerations(
    problems: list[str], at: str, specs: Iterable[TolerationSpec]
) -> tuple[needs.Toleration, ...]:
    made = []
    for index, one in enumerate(specs):
        if one.operator == "Exists" and one.value:
            problems.append(f"{at}[{index}].value: can't stand beside operator Exists")
        if not one.key and one.operator != "Exists":
            problems.append(f"{at}[{index}]: without a key, operator has to be Exists")
        made.append(
            needs.Toleration(one.key, one.operator, one.value, one.effect, one.toleration_seconds)
        )
    return tuple(made)


def _label(problems: list[str], at: str, name: str) -> None:
    if not _LABEL.fullmatch(name):
        problems.append(f"{at}: {name!r} is no DNS label (lower case, digits, dashes)")


def _unique(problems: list[str], at: str, names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        problems.append(f"{at}: {', '.join(twice)} is there twice")
