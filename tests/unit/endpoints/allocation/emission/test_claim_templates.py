"""Claim templates: what the planner chose, exactly, in each version of the API."""

import cel
import pytest
from msgspec.structs import replace

from endpoints.allocation.emission.claims import claim_template, has_capacity
from endpoints.allocation.needs import DeviceConstraint, DeviceOption, DeviceRequest
from endpoints.allocation.quantity import parse_quantity
from tests.support.plans import OWNER, plan


def test_the_chosen_alternative_is_written_as_exactly() -> None:
    made = plan(option="a100")
    template = claim_template(OWNER, made, made.gang.roles[1])
    (request,) = template["spec"]["spec"]["devices"]["requests"]
    assert request == {
        "name": "gpu",
        "exactly": {
            "deviceClassName": "gpu.nvidia.com",
            "allocationMode": "ExactCount",
            "count": 2,
            "selectors": [{"cel": {"expression": 'device.attributes["d"].product == "A100"'}}],
        },
    }
    assert template["apiVersion"] == "resource.k8s.io/v1"


def test_another_choice_is_another_template() -> None:
    names = {
        claim_template(OWNER, made, made.gang.roles[1])["metadata"]["name"]
        for made in (plan(option="a100"), plan(option="h100"), plan(option="a100", leaf="leaf-9"))
    }
    assert len(names) == 2
    assert all(name.startswith("llama-decode-") for name in names)


def test_v1beta1_writes_requests_flat() -> None:
    made = plan()
    template = claim_template(OWNER, made, made.gang.roles[1], "v1beta1")
    (request,) = template["spec"]["spec"]["devices"]["requests"]
    assert request["deviceClassName"] == "gpu.nvidia.com"
    assert "exactly" not in request


def test_constraints_tolerations_and_capacities_of_whole_devices() -> None:
    made = plan()
    devices = claim_template(OWNER, made, made.gang.roles[0])["spec"]["spec"]["devices"]
    assert devices["constraints"] == [
        {"matchAttribute": "resource.kubernetes.io/pcieRoot", "requests": ["gpu"]}
    ]
    exactly = devices["requests"][0]["exactly"]
    assert exactly["tolerations"] == [{"operator": "Exists", "key": "maintenance"}]
    assert "capacity" not in exactly
    (selector,) = exactly["selectors"]
    assert 'quantity("80Gi")' in selector["cel"]["expression"]


def test_what_is_taken_of_shared_devices_is_a_capacity_request() -> None:
    made = plan()
    pods = list(made.pods)
    taken = ((("gpu.nvidia.com/memory", parse_quantity("80Gi")),),) * 2
    pods[0] = replace(pods[0], grants=(replace(pods[0].grants[0], consumed=taken),))
    made = replace(made, pods=tuple(pods))
    exactly = claim_template(OWNER, made, made.gang.roles[0])["spec"]["spec"]["devices"][
        "requests"
    ][0]["exactly"]
    assert exactly["capacity"] == {"requests": {"memory": "80Gi"}}
    assert "selectors" not in exactly


def test_constraints_on_alternatives_that_were_not_chosen_are_left_out() -> None:
    made = plan(option="a100")
    decode = replace(
        made.gang.roles[1],
        constraints=(
            DeviceConstraint("d/root", ("gpu/h100",)),
            DeviceConstraint("d/root", ("gpu/a100",)),
            DeviceConstraint("d/index", distinct=True),
        ),
    )
    devices = claim_template(OWNER, made, decode)["spec"]["spec"]["devices"]
    assert devices["constraints"] == [
        {"matchAttribute": "d/root", "requests": ["gpu"]},
        {"distinctAttribute": "d/index"},
    ]


def test_every_device_and_looking_only() -> None:
    made = plan()
    role = replace(
        made.gang.roles[0],
        requests=(DeviceRequest("all", (DeviceOption("c", count=None),), admin_access=True),),
        constraints=(),
    )
    (request,) = claim_template(OWNER, made, role)["spec"]["spec"]["devices"]["requests"]
    assert request["exactly"] == {
        "deviceClassName": "c",
        "allocationMode": "All",
        "adminAccess": True,
    }


def test_templates_are_owned_and_found() -> None:
    made = plan()
    metadata = claim_template(OWNER, made, made.gang.roles[0])["metadata"]
    (reference,) = metadata["ownerReferences"]
    assert (reference["uid"], reference["controller"]) == ("u-1", True)
    assert metadata["labels"]["inferway.dev/capacity"] == "llama"
    assert metadata["labels"]["inferway.dev/role"] == "prefill"
    assert metadata["namespace"] == "serving"


@pytest.mark.parametrize(
    ("name", "memory", "expected"),
    [
        ("memory", 80, True),
        ("memory", 79, False),
        ("gpu.nvidia.com/memory", 81, True),
        ("gpu.nvidia.com/copies", 81, False),
        ("memory", None, False),
    ],
)
def test_a_demanded_capacity_never_aborts_the_allocation(
    name: str, memory: int | None, expected: bool
) -> None:
    class Amount:
        def __init__(self, amount: int) -> None:
            self.amount = amount

    own = {} if memory is None else {"memory": memory}
    device = {"driver": "gpu.nvidia.com", "capacity": {"gpu.nvidia.com": own}}
    expression = has_capacity(name, parse_quantity("80"))
    context = cel.Context(variables={"device": device})
    context.add_function("quantity", int)
    context.add_function("compareTo", lambda a, b: (a > b) - (a < b))
    assert cel.evaluate(expression, context) is expected
