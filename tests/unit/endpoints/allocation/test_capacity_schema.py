"""The schema of InferenceCapacity takes what the planner can read, and refuses the rest."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from endpoints.allocation.manifest import ManifestError, capacity_from
from tests.support.structural import complaints, defaulted, schema_of

_KUBERNETES = Path(__file__).parents[4] / "deploy/kubernetes"
_DEFINITION = yaml.safe_load((_KUBERNETES / "crds/inferencecapacity.yaml").read_text())
_SCHEMA = schema_of(_DEFINITION, "v1alpha1")
_VERSION: dict[str, Any] = _DEFINITION["spec"]["versions"][0]
_SAMPLES = [
    *sorted((_KUBERNETES / "samples").glob("*.yaml")),
    Path(__file__).parents[4] / "docs/allocation/pool.yaml",
]


def sample() -> dict[str, Any]:
    return copy.deepcopy(yaml.safe_load(_SAMPLES[0].read_text()))


@pytest.mark.parametrize("file", _SAMPLES, ids=lambda file: file.stem)
def test_samples_pass_the_schema_and_the_reader(file: Path) -> None:
    document = yaml.safe_load(file.read_text())
    assert complaints(_SCHEMA, document) == []
    capacity_from(defaulted(_SCHEMA, document))


_BAD = {
    "no roles": ("roles", [], "minItems is 1"),
    "a role twice": (
        "roles",
        [{"name": "a", "devices": [{"name": "g", "deviceClassName": "c"}]}] * 2,
        "a key is there twice",
    ),
    "a role's name": ("roles.0.name", "Prefill", "must match"),
    "no pods": ("roles.0.pods", 0, "minimum is 1"),
    "two ways to ask": (
        "roles.1.devices.0.deviceClassName",
        "gpu.nvidia.com",
        "either deviceClassName or firstAvailable",
    ),
    "count beside alternatives": ("roles.1.devices.0.count", 2, "only name stands beside it"),
    "count beside All": ("roles.0.devices.0.allocationMode", "All", "can't stand beside"),
    "a quantity": (
        "roles.0.devices.0.capacity",
        {"requests": {"memory": "80 gigabytes"}},
        "must match",
    ),
    "a constraint of nothing": ("roles.0.constraints", [{"requests": ["gpu"]}], "give either"),
    "a constraint's request": (
        "roles.0.constraints",
        [{"requests": ["nic"], "matchAttribute": "resource.kubernetes.io/pcieRoot"}],
        "names of this role's devices",
    ),
    "a toleration of nothing": ("roles.0.tolerations", [{"value": "x"}], "has to be Exists"),
    "bounds": ("replicas", {"min": 3, "max": 2}, "min may be at most max"),
    "wanted": ("replicas", {"max": 2, "wanted": 3}, "wanted may be at most max"),
    "a scheduler": ("scheduler", {"type": "Volcano"}, "must be one of"),
    "a queue without KAI": ("scheduler", {"type": "Native", "queue": "a"}, "only KAI has queues"),
    "preemption": ("preemption", "Always", "must be one of"),
    "budget": ("budget", {"devices": 0}, "minimum is 1"),
    "an unknown field": ("topologie", {}, "unknown field"),
}


@pytest.mark.parametrize("name", _BAD)
def test_bad_documents_are_refused_with_the_reason(name: str) -> None:
    path, value, message = _BAD[name]
    document = sample()
    holder: Any = document["spec"]
    *way, last = path.split(".")
    for step in way:
        holder = holder[int(step) if step.isdigit() else step]
    holder[last] = value
    assert any(message in line for line in complaints(_SCHEMA, document))


@pytest.mark.parametrize("name", sorted(_BAD.keys() - {"a queue without KAI"}))
def test_the_reader_refuses_most_of_it_too(name: str) -> None:
    path, value, _ = _BAD[name]
    document = sample()
    holder: Any = document["spec"]
    *way, last = path.split(".")
    for step in way:
        holder = holder[int(step) if step.isdigit() else step]
    holder[last] = value
    with pytest.raises(ManifestError):
        capacity_from(document)


def test_a_pool_can_not_be_exchanged() -> None:
    old, new = sample(), sample()
    new["spec"]["poolRef"]["name"] = "another"
    assert any("create another" in line for line in complaints(_SCHEMA, new, old))
    assert complaints(_SCHEMA, old, old) == []


def test_the_name_leaves_room_for_what_is_made_from_it() -> None:
    document = sample()
    document["metadata"]["name"] = "x" * 41
    assert any("at most 40" in line for line in complaints(_SCHEMA, document))


def test_the_schema_is_structural() -> None:
    """Every field says its type, or that it is int-or-string, as API servers demand."""

    def check(schema: Any, path: str) -> None:
        untyped = ("x-kubernetes-int-or-string", "x-kubernetes-preserve-unknown-fields")
        assert "type" in schema or any(schema.get(mark) for mark in untyped), path
        for name, field in schema.get("properties", {}).items():
            check(field, f"{path}.{name}")
        for key in ("items", "additionalProperties"):
            if key in schema:
                check(schema[key], f"{path}.{key}")
        if schema.get("x-kubernetes-list-type") == "map":
            for key in schema["x-kubernetes-list-map-keys"]:
                assert key in schema["items"]["required"], path

    check(_SCHEMA, "object")


def _property(path: str) -> dict[str, Any]:
    """What the schema says of a simple JSON path; of a filtered list, its items."""
    found: dict[str, Any] = _VERSION["schema"]["openAPIV3Schema"]
    for step in re.sub(r"\[\?.*?\]", "[]", path).strip(".").split("."):
        found = found["properties"][step.removesuffix("[]")]
        if step.endswith("[]"):
            found = found["items"]
    return found


@pytest.mark.parametrize(
    "column", _VERSION["additionalPrinterColumns"], ids=lambda one: one["name"]
)
def test_each_column_shows_a_field_that_there_is(column: dict[str, Any]) -> None:
    if column["jsonPath"].startswith(".metadata."):
        return
    assert _property(column["jsonPath"])["type"] == column["type"]


def test_scaling_reads_and_writes_fields_that_there_are() -> None:
    paths = _VERSION["subresources"]["scale"]
    assert _property(paths["specReplicasPath"])["type"] == "integer"
    assert _property(paths["statusReplicasPath"])["type"] == "integer"
    assert _property(paths["labelSelectorPath"])["type"] == "string"
