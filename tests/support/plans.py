"""Plans made by hand: a prefill pod with two GPUs and two decode pods, under one leaf switch."""

from endpoints.allocation.document import SchedulerSpec
from endpoints.allocation.emission.gangs.setting import Setting
from endpoints.allocation.emission.identity import Object, Owner, Replica
from endpoints.allocation.needs import (
    DeviceConstraint,
    DeviceOption,
    DeviceRequest,
    Gang,
    Reach,
    RoleNeed,
    Toleration,
)
from endpoints.allocation.plan import DeviceId, Domain, Grant, Plan, PodPlan
from endpoints.allocation.quantity import parse_quantity

CLASS = "gpu.nvidia.com"
LEAF = "fabric.topograph.run/tier-0"
OWNER = Owner(name="llama", namespace="serving", uid="u-1", pool="llama-pool")
TEMPLATE: Object = {
    "metadata": {"labels": {"app": "llama"}},
    "spec": {"containers": [{"name": "server", "image": "vllm"}, {"name": "sidecar"}]},
}
H100 = DeviceOption(CLASS, "h100", selectors=('device.attributes["d"].product == "H100"',))
A100 = DeviceOption(CLASS, "a100", count=2, selectors=('device.attributes["d"].product == "A100"',))


def domain(value: str) -> Domain:
    return Domain("leaf", value, LEAF)


def gang(decode_pods: int = 2) -> Gang:
    prefill = RoleNeed(
        "prefill",
        1,
        (
            DeviceRequest(
                "gpu",
                (
                    DeviceOption(
                        CLASS,
                        count=2,
                        capacity=(("memory", parse_quantity("80Gi")),),
                        tolerations=(Toleration("maintenance", "Exists"),),
                    ),
                ),
            ),
        ),
        constraints=(DeviceConstraint("resource.kubernetes.io/pcieRoot", ("gpu",)),),
        tolerations=(Toleration("gpu", "Equal", "true", "NoSchedule"),),
    )
    decode = RoleNeed("decode", decode_pods, (DeviceRequest("gpu", (H100, A100)),))
    return Gang("llama-pool", (prefill, decode), "serving", reach=Reach("leaf"))


def plan(leaf: str = "leaf-1", option: str = "a100", nodes: tuple[str, ...] = ("n1", "n2")) -> Plan:
    """Prefill on the first node, decode on the last one."""
    needs = gang()
    host = {node: Domain("host", node, "kubernetes.io/hostname") for node in nodes}

    def pod(role: str, index: int, node: str, devices: tuple[str, ...]) -> PodPlan:
        ids = tuple(DeviceId(CLASS, node, name) for name in devices)
        grant = Grant("gpu", option if role == "decode" else "", CLASS, ids)
        return PodPlan(role, index, node, (grant,), (domain(leaf), host[node]))

    return Plan(
        gang=needs,
        pods=(
            pod("prefill", 0, nodes[0], ("gpu-0", "gpu-1")),
            pod("decode", 0, nodes[-1], ("gpu-2", "gpu-3")),
            pod("decode", 1, nodes[-1], ("gpu-4", "gpu-5")),
        ),
        domain=domain(leaf),
        role_domains=(("prefill", host[nodes[0]]),),
        options=((("decode", "gpu"), option),),
        score=(),
        cost=6.0,
        evictions=(),
        refusals=(),
        candidates=1,
    )


def replica(index: int = 0, revision: str = "r1", **changed: str) -> Replica:
    return Replica(f"llama-{index}", revision, plan(**changed))  # type: ignore[arg-type]


def setting(version: str = "", claims_version: str = "v1", **scheduler: str) -> Setting:
    return Setting(
        owner=OWNER,
        scheduler=SchedulerSpec(**scheduler),  # type: ignore[arg-type]
        templates={"prefill": TEMPLATE, "decode": TEMPLATE},
        version=version,
        claims_version=claims_version,
    )
