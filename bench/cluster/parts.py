"""Nodes, slices and classes as the API server has them."""

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

Object: TypeAlias = dict[str, Any]

DRIVER: Final = "gpu.example.com"
CLASS: Final = "gpu.example.com"
LEAF_LABEL: Final = "fabric.topograph.run/tier-0"
HOST_LABEL: Final = "kubernetes.io/hostname"
ZONE_LABEL: Final = "topology.kubernetes.io/zone"


def node(name: str, labels: Mapping[str, str]) -> Object:
    """A node that is ready, with room for pods."""
    room = {"cpu": "64", "memory": "512Gi", "pods": "110"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {HOST_LABEL: name, **labels}},
        "spec": {},
        "status": {
            "capacity": room,
            "allocatable": room,
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
        },
    }


def gpu(index: int, product: str, memory: str, root: int = 0) -> Object:
    """A whole GPU on the PCIe root of that number."""
    return {
        "name": f"gpu-{index}",
        "attributes": {
            "index": {"int": index},
            "productName": {"string": product},
            "resource.kubernetes.io/pcieRoot": {"string": f"pci0000:{root:02x}"},
        },
        "capacity": {"memory": {"value": memory}},
    }


def device_slice(
    node_name: str, devices: list[Object], *, driver: str = DRIVER, generation: int = 1
) -> Object:
    """The one slice of a node's pool."""
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceSlice",
        "metadata": {"name": f"{node_name}-{driver}"},
        "spec": {
            "driver": driver,
            "nodeName": node_name,
            "pool": {"name": node_name, "generation": generation, "resourceSliceCount": 1},
            "devices": devices,
        },
    }


def device_class(name: str = CLASS, driver: str = DRIVER) -> Object:
    """All devices of a driver."""
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "DeviceClass",
        "metadata": {"name": name},
        "spec": {"selectors": [{"cel": {"expression": f'device.driver == "{driver}"'}}]},
    }
