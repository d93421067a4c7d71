"""What ``/api`` and ``/apis`` say."""

from typing import Any

from bench.apiserver.kinds import Catalogue, Kind


def core_versions() -> dict[str, Any]:
    """``/api``."""
    return {"kind": "APIVersions", "versions": ["v1"]}


def group_list(catalogue: Catalogue) -> dict[str, Any]:
    """``/apis``."""
    return {
        "kind": "APIGroupList",
        "apiVersion": "v1",
        "groups": [
            group_of(group, versions) for group, versions in catalogue.groups().items() if group
        ],
    }


def group_of(group: str, versions: list[str]) -> dict[str, Any]:
    """``/apis/GROUP``."""
    listed = [{"groupVersion": f"{group}/{version}", "version": version} for version in versions]
    return {
        "kind": "APIGroup",
        "apiVersion": "v1",
        "name": group,
        "versions": listed,
        "preferredVersion": listed[0],
    }


def resource_list(catalogue: Catalogue, group: str, version: str) -> dict[str, Any]:
    """``/apis/GROUP/VERSION``."""
    resources: list[dict[str, Any]] = []
    for kind in catalogue.served(group, version):
        resources.append(_resource(kind, kind.plural, kind.verbs()))
        if kind.status:
            resources.append(_resource(kind, f"{kind.plural}/status", ["get", "patch", "update"]))
        if kind.scale:
            scale = _resource(kind, f"{kind.plural}/scale", ["get", "patch", "update"])
            resources.append({**scale, "group": "autoscaling", "version": "v1", "kind": "Scale"})
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{group}/{version}" if group else version,
        "resources": resources,
    }


def _resource(kind: Kind, name: str, verbs: list[str]) -> dict[str, Any]:
    return {
        "name": name,
        "singularName": kind.kind.lower() if "/" not in name else "",
        "namespaced": kind.namespaced,
        "kind": kind.kind,
        "verbs": verbs,
    }
