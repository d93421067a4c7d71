"""What kubectl prints is read, whichever way it lists, and what can't be read is told."""

import json

import pytest

from bench.placement.objects import GPU, claim, gpu, gpu_node, node, slice_, used
from endpoints.allocation.holdings import POOL_LABEL, REPLICA_LABEL
from endpoints.allocation.needs import DeviceConstraint, Toleration
from endpoints.allocation.snapshot import SnapshotError, read_snapshot


def written(document: object) -> bytes:
    return json.dumps(document).encode()


def test_a_list_a_list_of_one_kind_and_an_array() -> None:
    items = gpu_node("a", 2)
    mixed = {"kind": "List", "items": [*items, {"kind": "Pod", "metadata": {"name": "p"}}]}
    of_kind = {
        "kind": "NodeList",
        "items": [{key: value for key, value in node("b").items() if key != "kind"}],
    }
    found = read_snapshot(written([mixed, of_kind]))
    assert sorted(found.inventory.nodes) == ["a", "b"]
    assert found.counts == {"Node": 2, "ResourceSlice": 1}
    assert found.notes == ()


def test_what_cannot_be_read_is_left_out_and_told() -> None:
    broken = slice_("b", [gpu("g", "80GiB")])
    found = read_snapshot(written({"kind": "List", "items": [*gpu_node("a", 1), broken]}))
    assert len(found.notes) == 1
    assert "left out: ResourceSlice b-gpu.example.com" in found.notes[0]
    assert len(found.inventory.pools) == 1


def test_claims_with_our_labels_are_holdings() -> None:
    labels = {"inferway.dev/pool": "chat", "inferway.dev/replica": "0"}
    items = []
    for index in range(2):
        one = claim(f"c{index}", used(f"gpu-{index}", "a"), labels=labels, namespace="ns")
        one["metadata"]["annotations"] = {
            "inferway.dev/priority": "7",
            "inferway.dev/idle": "true" if index else "false",
        }
        items.append(one)
    found = read_snapshot(written({"items": items, "kind": "List"}))
    (holding,) = found.holdings
    assert (holding.pool, holding.replica, holding.priority) == ("chat", "0", 7)
    assert holding.claims == ("ns/c0", "ns/c1")
    assert not holding.idle  # one of its claims has work


def test_a_replica_of_one_pod_says_what_it_needs_elsewhere() -> None:
    selector = {"cel": {"expression": "true"}}
    exact = {
        "deviceClassName": GPU,
        "count": 2,
        "selectors": [selector],
        "capacity": {"requests": {"memory": "1Gi"}},
        "tolerations": [{"operator": "Exists"}],
    }
    alternatives = [{"name": "a", "deviceClassName": GPU, "allocationMode": "All"}]
    requests = (
        [{"name": "r", "exactly": exact}, {"name": "s", "firstAvailable": alternatives}],
        [{"name": "r", **exact}, {"name": "s", "firstAvailable": alternatives}],  # v1beta1
    )
    for asked in requests:
        one = claim("c", used("gpu-0", "a"), labels={POOL_LABEL: "chat", REPLICA_LABEL: "0"})
        one["spec"]["devices"] = {"requests": asked, "constraints": [{"matchAttribute": "a/b"}]}
        (holding,) = read_snapshot(written([one])).holdings
        assert holding.gang is not None
        (role,) = holding.gang.roles
        first, second = role.requests
        assert (first.options[0].count, first.options[0].selectors) == (2, ("true",))
        assert first.options[0].tolerations == (Toleration(operator="Exists"),)
        assert (second.options[0].name, second.options[0].count) == ("a", None)
        assert role.constraints == (DeviceConstraint("a/b"),)


def test_topologies_are_read() -> None:
    topology = {
        "apiVersion": "kai.scheduler/v1alpha1",
        "kind": "Topology",
        "metadata": {"name": "net"},
        "spec": {"levels": [{"nodeLabel": "x.io/rack"}]},
    }
    assert list(read_snapshot(written([topology])).schemes) == ["net"]


@pytest.mark.parametrize("content", [b"", b"{", b"3", b'[{"metadata": {}}]', b'["x"]'])
def test_what_is_no_list_of_objects(content: bytes) -> None:
    with pytest.raises(SnapshotError):
        read_snapshot(content)


def test_a_kind_that_is_not_ours_is_passed_over() -> None:
    assert read_snapshot(written([{"kind": "Pod"}, {"kind": GPU}])).counts == {}
