"""Random small clusters and pools that compete for them, for comparing plans with a scheduler.

Nodes have whole GPUs of one or two products on two PCIe roots, or partitionable ones with shared
counters; some are tainted, cordoned, or have devices in use or unhealthy. Pools have one or two
roles with a pod or several, ask for products, memory, roots in common and domains.
"""

from dataclasses import dataclass, field
from random import Random
from typing import Final

from bench.cluster.parts import (
    CLASS,
    DRIVER,
    LEAF_LABEL,
    Object,
    device_class,
    device_slice,
    gpu,
    node,
)

_MEMORY: Final = {"H100": "80Gi", "A100": "40Gi"}
_PRODUCT: Final = 'device.attributes["{driver}"].productName == "{product}"'
_ROOT: Final = "resource.kubernetes.io/pcieRoot"


@dataclass(frozen=True, slots=True)
class Scenario:
    """Objects of cluster scope, and InferenceCapacities (their ``spec``) by name."""

    seed: int
    nodes: tuple[Object, ...]
    slices: tuple[Object, ...]
    classes: tuple[Object, ...]
    pools: dict[str, Object] = field(default_factory=dict)


def scenario(seed: int, *, prefix: str = "", driver: str = DRIVER, class_: str = CLASS) -> Scenario:
    """The scenario of that seed; names of nodes begin with ``prefix``."""
    random = Random(seed)
    leaves = random.randint(1, 3)
    nodes, slices = [], []
    for number in range(random.randint(2, 8)):
        name = f"{prefix}node-{number}"
        labels = {LEAF_LABEL: f"leaf-{number % leaves}"} if random.random() < 0.95 else {}
        made = node(name, labels)
        if random.random() < 0.05:
            made["spec"]["unschedulable"] = True
        nodes.append(made)
        slices.append(device_slice(name, _devices(random), driver=driver))
        if any("consumesCounters" in one for one in slices[-1]["spec"]["devices"]):
            _split(slices)
    pools = {
        f"pool-{number}": _pool(random, driver, class_) for number in range(random.randint(1, 3))
    }
    return Scenario(seed, tuple(nodes), tuple(slices), (device_class(class_, driver),), pools)


def _devices(random: Random) -> list[Object]:
    if random.random() < 0.2:
        return _partitionable(random.randint(1, 2))
    products = random.choice([["H100"], ["A100"], ["A100", "H100"]])
    count = random.choice([1, 2, 4, 8])
    devices = []
    for index in range(count):
        product = products[index * len(products) // count]
        made = gpu(index, product, _MEMORY[product], root=index * 2 // count)
        if random.random() < 0.04:
            taint = {"key": "gpu.example.com/xid", "value": "63", "effect": "NoSchedule"}
            made["taints"] = [taint]
        devices.append(made)
    return devices


def _partitionable(count: int) -> list[Object]:
    """GPUs that are used whole or in two halves, which shared counters see to."""
    devices = []
    for index in range(count):
        for name, slices, memory in (
            (f"gpu-{index}", 2, "80Gi"),
            (f"gpu-{index}-half-0", 1, "40Gi"),
            (f"gpu-{index}-half-1", 1, "40Gi"),
        ):
            made = gpu(index, "H100" if slices == 2 else "H100-half", memory, root=index)
            made["name"] = name
            made["consumesCounters"] = [
                {
                    "counterSet": f"gpu-{index}-counters",
                    "counters": {"slices": {"value": str(slices)}},
                }
            ]
            devices.append(made)
    return devices


def _split(slices: list[Object]) -> None:
    """The counters of the last slice's pool get a slice of their own, as from 1.35 on."""
    devices = slices[-1]
    devices["spec"]["pool"]["resourceSliceCount"] = 2
    names = {one["consumesCounters"][0]["counterSet"] for one in devices["spec"]["devices"]}
    counters = {
        **devices,
        "metadata": {"name": f"{devices['metadata']['name']}-counters"},
        "spec": {
            **{key: value for key, value in devices["spec"].items() if key != "devices"},
            "sharedCounters": [
                {"name": name, "counters": {"slices": {"value": "2"}}} for name in sorted(names)
            ],
        },
    }
    slices.append(counters)


def _pool(random: Random, driver: str, class_: str) -> Object:
    names = ["server"] if random.random() < 0.5 else ["prefill", "decode"]
    roles = [_role(random, name, driver, class_) for name in names]
    spec: Object = {
        "replicas": {"max": 8, "wanted": random.randint(1, 4)},
        "priority": random.choice([0, 0, 10]),
        "roles": roles,
    }
    level = random.choice([None, "kubernetes.io/hostname", LEAF_LABEL])
    if level is not None:
        spec["topology"] = {"required": level}
    return spec


def _role(random: Random, name: str, driver: str, class_: str) -> Object:
    count = random.choice([1, 1, 2, 2, 4])
    request: Object = {"name": "gpu", "deviceClassName": class_, "count": count}
    product = random.choice([None, None, "H100", "A100"])
    if product is not None:
        expression = _PRODUCT.format(driver=driver, product=product)
        request["selectors"] = [{"cel": {"expression": expression}}]
    elif random.random() < 0.3:
        request["capacity"] = {"requests": {"memory": "60Gi"}}
    role: Object = {
        "name": name,
        "pods": random.choice([1, 1, 2, 3]),
        "devices": [request],
        "template": {
            "spec": {
                "terminationGracePeriodSeconds": 1,
                "containers": [{"name": "server", "image": "example.com/server:1"}],
            }
        },
    }
    if count > 1 and random.random() < 0.3:
        role["constraints"] = [{"matchAttribute": _ROOT, "requests": ["gpu"]}]
    return role
