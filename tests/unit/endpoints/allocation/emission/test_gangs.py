"""Each scheduler's way to keep a gang whole."""

from typing import Any

import pytest
from msgspec.structs import replace

from endpoints.allocation.emission.changes import written
from endpoints.allocation.emission.identity import EmissionError, Object
from endpoints.allocation.emission.served import (
    GangApi,
    Gangs,
    NotServedError,
    Served,
    gangs_of,
)
from tests.support.plans import LEAF, OWNER, replica, setting


def by_kind(api: GangApi, version: str = "", **scheduler: str) -> dict[str, list[Object]]:
    found: dict[str, list[Object]] = {}
    for item in written([replica()], setting(version, **scheduler), api):
        found.setdefault(item["kind"], []).append(item)
    return found


def test_everything_has_our_owner_and_labels() -> None:
    for api, version in (
        (GangApi.KAI, "v2alpha2"),
        (GangApi.NATIVE, "v1alpha2"),
        (GangApi.GROVE, "v1alpha1"),
        (GangApi.LEADER_WORKER_SET, "v1"),
        (GangApi.PLAIN, ""),
    ):
        for item in written([replica()], setting(version), api):
            metadata = item["metadata"]
            assert metadata["ownerReferences"] == [OWNER.reference()]
            assert metadata["namespace"] == "serving"
            assert metadata["labels"]["inferway.dev/capacity"] == "llama"
            assert metadata["annotations"]["inferway.dev/content"]


def test_plain_pods_and_their_claims() -> None:
    found = by_kind(GangApi.PLAIN)
    assert {kind: len(items) for kind, items in found.items()} == {
        "ResourceClaimTemplate": 2,
        "Pod": 3,
    }
    templates = {item["metadata"]["name"] for item in found["ResourceClaimTemplate"]}
    for pod in found["Pod"]:
        (claim,) = pod["spec"]["resourceClaims"]
        assert claim["resourceClaimTemplateName"] in templates
        assert "schedulerName" not in pod["spec"]


def test_kai() -> None:
    found = by_kind(GangApi.KAI, queue="research", priority_class_name="inference")
    (group,) = found["PodGroup"]
    assert group["apiVersion"] == "scheduling.run.ai/v2alpha2"
    assert group["spec"] == {
        "minMember": 3,
        "queue": "research",
        "priorityClassName": "inference",
        "subGroups": [
            {"name": "prefill", "minMember": 1},
            {"name": "decode", "minMember": 2},
        ],
    }
    for pod in found["Pod"]:
        metadata = pod["metadata"]
        assert metadata["annotations"]["pod-group-name"] == "llama-0"
        assert metadata["labels"]["kai.scheduler/queue"] == "research"
        role = metadata["labels"]["inferway.dev/role"]
        assert metadata["labels"]["kai.scheduler/subgroup-name"] == role
        assert pod["spec"]["schedulerName"] == "kai-scheduler"
        assert pod["spec"]["priorityClassName"] == "inference"


@pytest.mark.parametrize(
    ("version", "reference"),
    [
        (
            "v1alpha2",
            {
                "podGroupTemplateRef": {
                    "workload": {"workloadName": "llama-0", "podGroupTemplateName": "gang"}
                }
            },
        ),
        ("v1beta1", {"workloadRef": {"workloadName": "llama-0", "templateName": "gang"}}),
        ("v1alpha3", {"workloadRef": {"workloadName": "llama-0", "templateName": "gang"}}),
    ],
)
def test_native_pod_groups(version: str, reference: dict[str, Any]) -> None:
    found = by_kind(GangApi.NATIVE, version)
    rules = {
        "schedulingPolicy": {"gang": {"minCount": 3}},
        "schedulingConstraints": {"topology": [{"key": LEAF}]},
    }
    (workload,), (group,) = found["Workload"], found["PodGroup"]
    assert workload["apiVersion"] == group["apiVersion"] == f"scheduling.k8s.io/{version}"
    assert workload["spec"]["podGroupTemplates"] == [{"name": "gang", **rules}]
    assert workload["spec"]["controllerRef"]["name"] == "llama"
    assert group["spec"] == {**reference, **rules}
    for pod in found["Pod"]:
        assert pod["spec"]["schedulingGroup"] == {"podGroupName": "llama-0"}


def test_native_workloads_before_pod_groups() -> None:
    found = by_kind(GangApi.NATIVE, "v1alpha1")
    assert "PodGroup" not in found
    (workload,) = found["Workload"]
    assert workload["spec"]["podGroups"] == [{"name": "gang", "policy": {"gang": {"minCount": 3}}}]
    for pod in found["Pod"]:
        assert pod["spec"]["workloadRef"] == {"name": "llama-0", "podGroup": "gang"}


def test_grove() -> None:
    found = by_kind(GangApi.GROVE, queue="research")
    assert "Pod" not in found
    (clique_set,) = found["PodCliqueSet"]
    assert clique_set["spec"]["replicas"] == 1
    prefill, decode = clique_set["spec"]["template"]["cliques"]
    assert (decode["spec"]["replicas"], decode["spec"]["minAvailable"]) == (2, 2)
    assert prefill["labels"]["kai.scheduler/queue"] == "research"
    assert prefill["spec"]["podSpec"]["resourceClaims"][0]["name"] == "devices"


def test_grove_says_when_names_get_too_long() -> None:
    long = replace(replica(), name="x" * 50)
    with pytest.raises(EmissionError, match="shorten"):
        written([long], setting(), GangApi.GROVE)


def test_leader_worker_sets() -> None:
    found = by_kind(GangApi.LEADER_WORKER_SET)
    sizes = {
        item["metadata"]["name"]: item["spec"]["leaderWorkerTemplate"]["size"]
        for item in found["LeaderWorkerSet"]
    }
    assert sizes == {"llama-0-decode": 2, "llama-0-prefill": 1}


def served(*names: str) -> Served:
    return Served(frozenset(tuple(name.split("/")) for name in names))  # type: ignore[misc]


_KAI, _NATIVE = "scheduling.run.ai/v2alpha2/podgroups", "scheduling.k8s.io/v1alpha2/workloads"


@pytest.mark.parametrize(
    ("names", "asked", "expected"),
    [
        ((), "Auto", Gangs(GangApi.PLAIN)),
        (("scheduling.k8s.io/v1/priorityclasses",), "Auto", Gangs(GangApi.PLAIN)),
        ((_NATIVE,), "Auto", Gangs(GangApi.NATIVE, "v1alpha2")),
        (
            (_NATIVE, "scheduling.k8s.io/v1beta1/workloads"),
            "Auto",
            Gangs(GangApi.NATIVE, "v1beta1"),
        ),
        ((_NATIVE, _KAI), "Auto", Gangs(GangApi.KAI, "v2alpha2")),
        ((_NATIVE, _KAI), "Native", Gangs(GangApi.NATIVE, "v1alpha2")),
        ((_KAI,), "Plain", Gangs(GangApi.PLAIN)),
        (
            ("leaderworkerset.x-k8s.io/v1/leaderworkersets",),
            "LeaderWorkerSet",
            Gangs(GangApi.LEADER_WORKER_SET, "v1"),
        ),
        (("leaderworkerset.x-k8s.io/v1/leaderworkersets",), "Auto", Gangs(GangApi.PLAIN)),
    ],
)
def test_what_is_served_decides(names: tuple[str, ...], asked: str, expected: Gangs) -> None:
    assert gangs_of(served(*names), asked) == expected


def test_what_is_asked_for_must_be_there() -> None:
    with pytest.raises(NotServedError, match=r"podgroups\.scheduling\.run\.ai"):
        gangs_of(served(_NATIVE), "KAI")


def test_the_newest_claims_that_are_served() -> None:
    old = "resource.k8s.io/v1beta1/resourceclaimtemplates"
    assert served(old, "resource.k8s.io/v1beta2/resourceclaimtemplates").claims() == "v1beta2"
    with pytest.raises(NotServedError, match=r"1\.34"):
        served().claims()
