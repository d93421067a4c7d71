"""Levels of the topology: presets, objects that name them, and nodes without labels."""

import pytest

from bench.placement.objects import inventory, node
from endpoints.allocation.inventory import InventoryError
from endpoints.allocation.levels import (
    PRESETS,
    detect,
    is_topology,
    scheme_from_labels,
    scheme_of,
)
from endpoints.allocation.topology import Topology

CLIQUE = "nvidia.com/gpu.clique"


def groups(topology: Topology, level: str) -> dict[str, tuple[str, ...]]:
    return {one.domain.value: one.nodes for one in topology.groups(level)}


@pytest.mark.parametrize(
    ("preset", "label"),
    [
        ("topograph", "fabric.topograph.run/tier-0"),
        ("topograph-legacy", "network.topology.nvidia.com/leaf"),
        ("aws", "topology.k8s.aws/network-node-layer-3"),
        ("gcp", "cloud.google.com/gce-topology-subblock"),
        ("oci", "oci.oraclecloud.com/host.rack_id"),
    ],
)
def test_each_preset_calls_the_switch_next_to_the_nodes_its_leaf(preset: str, label: str) -> None:
    held = inventory(node("a", {label: "x"}), node("b", {label: "x"}), node("c", {label: "y"}))
    assert detect(held.nodes.values()).name == preset
    topology = Topology(PRESETS[preset], held)
    assert groups(topology, "leaf") == {"x": ("a", "b"), "y": ("c",)}
    assert groups(topology, label) == groups(topology, "leaf")
    assert topology.domain_of("a", "leaf") == ("leaf", "x", label)


def test_without_labels_there_are_zones_and_hosts() -> None:
    held = inventory(node("a", {"topology.kubernetes.io/zone": "z"}), node("b"))
    scheme = detect(held.nodes.values())
    assert scheme.name == "cloud"
    topology = Topology(scheme, held)
    assert groups(topology, "zone") == {"z": ("a",)}
    assert groups(topology, "host") == {"a": ("a",), "b": ("b",)}
    assert topology.domain_of("b", "zone") is None


def test_the_clique_is_a_partition_of_a_rack_and_else_the_node_itself() -> None:
    held = inventory(
        node("a", {CLIQUE: "cluster-1.0"}),
        node("b", {CLIQUE: "cluster-1.1"}),
        node("c", {CLIQUE: "cluster-1.1"}),
        node("d"),
    )
    topology = Topology(detect(held.nodes.values()), held)
    assert topology.scheme.name == "nvidia-clique"
    assert groups(topology, "nvlink") == {
        "cluster-1.0": ("a",),
        "cluster-1.1": ("b", "c"),
        "d": ("d",),
    }
    assert groups(topology, "nvlink-rack") == {"cluster-1": ("a", "b", "c"), "d": ("d",)}
    one, rack = topology.domain_of("d", "nvlink"), topology.domain_of("a", "nvlink-rack")
    assert one is not None
    assert one.label == "kubernetes.io/hostname"
    assert rack is not None
    assert rack.label == ""  # no one value of a label selects it


def test_equal_names_below_different_parents_are_different_domains() -> None:
    labels = "fabric.topograph.run/tier-1", "fabric.topograph.run/tier-0"
    held = inventory(
        *(node(f"n{at}", dict(zip(labels, (f"s{at}", "leaf"), strict=True))) for at in range(2))
    )
    assert len(Topology(PRESETS["topograph"], held).groups("leaf")) == 2


def test_labels_that_change_move_the_node() -> None:
    label = "topology.kubernetes.io/zone"
    held = inventory(node("a", {label: "x"}))
    topology = Topology(PRESETS["cloud"], held)
    assert groups(topology, "zone") == {"x": ("a",)}
    held.upsert_node(node("a", {label: "y"}))
    assert groups(topology, "zone") == {"y": ("a",)}


@pytest.mark.parametrize(
    "item",
    [
        {
            "apiVersion": "kai.scheduler/v1alpha1",
            "kind": "Topology",
            "metadata": {"name": "net"},
            "spec": {
                "levels": [{"nodeLabel": "x.io/rack"}, {"nodeLabel": "kubernetes.io/hostname"}]
            },
        },
        {
            "apiVersion": "kueue.x-k8s.io/v1beta2",
            "kind": "Topology",
            "metadata": {"name": "net"},
            "spec": {"levels": [{"nodeLabel": "x.io/rack"}]},
        },
        {
            "apiVersion": "grove.io/v1alpha1",
            "kind": "ClusterTopologyBinding",
            "metadata": {"name": "net"},
            "spec": {"levels": [{"domain": "rack", "key": "x.io/rack"}]},
        },
    ],
)
def test_topologies_of_schedulers(item: dict[str, object]) -> None:
    assert is_topology(item)
    scheme = scheme_of(item)
    assert [level.name for level in scheme.trees[0]] == ["rack", "host"]
    assert scheme.level("rack").label == "x.io/rack"
    assert scheme.level("x.io/rack").name == "rack"


def test_a_topology_without_levels_is_an_error() -> None:
    item = {"apiVersion": "kai.scheduler/v1alpha1", "kind": "Topology", "metadata": {"name": "n"}}
    with pytest.raises(InventoryError, match="levels"):
        scheme_of(item)
    assert not is_topology({"apiVersion": "v1", "kind": "Node"})


def test_own_levels_and_unknown_ones() -> None:
    scheme = scheme_from_labels("own", [("row", "x.io/row"), ("rack", "x.io/rack")])
    assert [level.name for level in scheme.path("rack")] == ["row", "rack"]
    with pytest.raises(ValueError, match="no level 'leaf'; there are row, rack, host"):
        scheme.level("leaf")
