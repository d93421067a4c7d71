"""An InferenceCapacity is read whole, and what is wrong in it is named by its field."""

from pathlib import Path

import pytest

from endpoints.allocation.manifest import ManifestError, capacity_from, capacity_from_yaml
from endpoints.allocation.needs import DeviceConstraint, Reach, Toleration
from endpoints.allocation.quantity import parse_quantity

TEXT = """
apiVersion: inferway.dev/v1alpha1
kind: InferenceCapacity
metadata: {name: llama, namespace: serving}
spec:
  poolRef: {name: llama-pool}
  replicas: {min: 1, max: 4}
  priority: 50
  preemption: LowerPriority
  topology: {required: leaf, preferred: host, near: nvlink, spread: zone}
  slo: {ttftSeconds: 1.5, itlSeconds: 0.05, attainment: 0.99}
  scheduler: {type: KAI, queue: serving}
  budget: {devices: 32}
  roles:
  - name: prefill
    pods: 2
    topology: {required: nvlink}
    nodeSelector: {pool: gpu}
    tolerations: [{key: dedicated, operator: Exists}]
    devices:
    - name: gpu
      deviceClassName: gpu.nvidia.com
      count: 2
      selectors: [{cel: {expression: "true"}}, "device.driver == 'x'"]
      capacity: {requests: {memory: 80Gi}}
    - {name: monitor, deviceClassName: gpu.nvidia.com, allocationMode: All, adminAccess: true}
    constraints: [{requests: [gpu], matchAttribute: resource.kubernetes.io/pcieRoot}]
  - name: decode
    devices:
    - name: gpu
      firstAvailable:
      - {name: h100, deviceClassName: gpu.nvidia.com}
      - {name: a100, deviceClassName: gpu.nvidia.com, count: 2}
"""


def test_it_becomes_a_gang() -> None:
    capacity = capacity_from_yaml(TEXT)
    gang = capacity.gang
    assert (capacity.name, capacity.namespace, gang.pool) == ("llama", "serving", "llama-pool")
    assert (gang.priority, gang.preempts, gang.pods) == (50, True, 3)
    assert (gang.reach, gang.near, gang.spread) == (Reach("leaf", "host"), "nvlink", "zone")
    prefill, decode = gang.roles
    assert prefill.reach == Reach("nvlink")
    assert prefill.node_selector == (("pool", "gpu"),)
    assert prefill.tolerations == (Toleration("dedicated", "Exists"),)
    gpu, monitor = prefill.requests
    assert gpu.options[0].count == 2
    assert gpu.options[0].selectors == ("true", "device.driver == 'x'")
    assert gpu.options[0].capacity == (("memory", parse_quantity("80Gi")),)
    assert monitor.admin_access
    assert monitor.options[0].count is None
    assert prefill.constraints == (DeviceConstraint("resource.kubernetes.io/pcieRoot", ("gpu",)),)
    assert [(one.name, one.count) for one in decode.requests[0].options] == [
        ("h100", 1),
        ("a100", 2),
    ]
    assert capacity.spec.replicas.max == 4
    assert capacity.spec.scheduler.type == "KAI"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("kind: Inf", "kind: If", "kind: is 'IferenceCapacity'; write InferenceCapacity"),
        ("/v1alpha1", "/v2", "apiVersion: is 'inferway.dev/v2'"),
        ("{name: llama, ", "{", "metadata.name: is missing"),
        ("pods: 2", "pods: two", "spec.roles[0].pods: Expected `int`, got `str`"),
        ("pods: 2", "pods: 0", "spec.roles[0].pods: is 0; write 1 or more"),
        ("count: 2\n", "cuont: 2\n", "spec.roles[0].devices[0]: Object contains unknown field"),
        ("count: 2\n", "count: 40\n", "spec.roles[0].devices: ask for 41 devices a pod"),
        ("80Gi", "80GiB", "spec.roles[0].devices[0].capacity.requests[memory]: '80GiB' is no"),
        ("max: 4", "max: 0", "spec.replicas.max: is 0; write 1 or more"),
        ("max: 4", "max: 4, mni: 1", "spec.replicas: Object contains unknown field `mni`"),
        ("allocationMode: All", "allocationMode: Some", "spec.roles[0].devices[1].allocationMode"),
        (
            "allocationMode: All",
            "allocationMode: All, count: 1",
            "can't stand beside allocationMode",
        ),
        ("requests: [gpu]", "requests: [nic]", "there is no request 'nic'"),
        (
            "matchAttribute: resource.kubernetes.io/pcieRoot",
            "matchAttribute: ''",
            "write one of match",
        ),
        ("resource.kubernetes.io/pcieRoot", "pcieRoot", "'pcieRoot' is no attribute's full name"),
        ("name: decode", "name: prefill", "spec.roles: prefill is there twice"),
        ("name: decode", "name: De_code", "spec.roles[1].name: 'De_code' is no DNS label"),
        (
            "name: a100",
            "name: h100",
            "spec.roles[1].devices[0].firstAvailable: h100 is there twice",
        ),
        (
            "key: dedicated, operator: Exists",
            "value: x",
            "without a key, operator has to be Exists",
        ),
        ("operator: Exists", "operator: Exists, value: x", "can't stand beside operator Exists"),
        ("type: KAI", "type: Volcano", "spec.scheduler.type: Invalid enum value 'Volcano'"),
        ("devices: 32", "devices: -1", "spec.budget.devices: is -1; write more than 0"),
        ("0.99", "1.5", "spec.slo.attainment: is 1.5; write a share up to 1"),
        ("preemption: Low", "preemption: Hi", "spec.preemption: Invalid enum value"),
        (
            "      firstAvailable:",
            "      count: 1\n      firstAvailable:",
            "only name stands beside it",
        ),
    ],
)
def test_what_is_wrong_is_named(old: str, new: str, said: str) -> None:
    assert TEXT.count(old) >= 1
    with pytest.raises(ManifestError) as caught:
        capacity_from_yaml(TEXT.replace(old, new), "pool.yaml")
    assert str(caught.value).startswith("pool.yaml can't be used:\n  ")
    assert said in str(caught.value)


def test_several_things_are_said_at_once() -> None:
    text = TEXT.replace("pods: 2", "pods: 0").replace("80Gi", "x").replace("max: 4", "max: 0")
    with pytest.raises(ManifestError) as caught:
        capacity_from_yaml(text)
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize("text", ["", "[]", "a: [", "- 1"])
def test_what_is_no_document(text: str) -> None:
    with pytest.raises(ManifestError):
        capacity_from_yaml(text)


def test_a_request_without_class() -> None:
    document = {
        "apiVersion": "inferway.dev/v1alpha1",
        "kind": "InferenceCapacity",
        "metadata": {"name": "x"},
        "spec": {"roles": [{"name": "w", "devices": [{"name": "gpu"}]}]},
    }
    with pytest.raises(ManifestError, match="deviceClassName or firstAvailable is missing"):
        capacity_from(document)
    with pytest.raises(ManifestError, match=r"spec: Expected `object`, got `null`"):
        capacity_from({**document, "spec": None})


def test_the_documented_pool_is_read() -> None:
    capacity = capacity_from_yaml(Path("docs/allocation/pool.yaml").read_text())
    assert [role.name for role in capacity.gang.roles] == ["prefill", "decode"]
