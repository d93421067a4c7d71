"""What a plan adds to a user's pod template, and what it leaves alone."""

import copy

import pytest

from endpoints.allocation.emission.gangs.setting import own_pods
from endpoints.allocation.emission.identity import EmissionError, Object
from endpoints.allocation.emission.podtemplate import (
    Place,
    PodPatch,
    patched,
    place_of,
)
from tests.support.plans import LEAF, TEMPLATE, domain, gang, plan, replica, setting

_PREFILL, _DECODE = gang().roles


def terms(template: Object) -> list[Object]:
    affinity = template["spec"]["affinity"]["nodeAffinity"]
    found: list[Object] = affinity["requiredDuringSchedulingIgnoredDuringExecution"][
        "nodeSelectorTerms"
    ]
    return found


def test_the_first_container_gets_the_claim() -> None:
    made = patched(TEMPLATE, _PREFILL, PodPatch("claims-1", Place()))
    assert made["spec"]["resourceClaims"] == [
        {"name": "devices", "resourceClaimTemplateName": "claims-1"}
    ]
    server, sidecar = made["spec"]["containers"]
    assert server["resources"]["claims"] == [{"name": "devices"}]
    assert "resources" not in sidecar
    assert "affinity" not in made["spec"]


def test_a_container_that_names_the_claim_keeps_its_way() -> None:
    template = copy.deepcopy(TEMPLATE)
    asked = [{"name": "devices", "request": "gpu"}]
    template["spec"]["containers"][1]["resources"] = {"claims": asked}
    made = patched(template, _PREFILL, PodPatch("claims-1", Place()))
    server, sidecar = made["spec"]["containers"]
    assert "resources" not in server
    assert sidecar["resources"]["claims"] == asked


def test_the_place_holds_besides_the_templates_own_affinity() -> None:
    template = copy.deepcopy(TEMPLATE)
    mine = [{"matchExpressions": [{"key": "disk", "operator": "Exists"}]}, {"matchFields": []}]
    template["spec"]["affinity"] = {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": mine}
        }
    }
    place = Place((domain("leaf-1"),), ("n1", "n2"))
    found = terms(patched(template, _DECODE, PodPatch(None, place)))
    assert len(found) == 4
    leaf = {"key": LEAF, "operator": "In", "values": ["leaf-1"]}
    assert all(leaf in term["matchExpressions"] for term in found)
    assert [term["matchFields"][-1]["values"] for term in found] == [["n1"], ["n2"]] * 2
    assert {"key": "disk", "operator": "Exists"} in found[0]["matchExpressions"]


def test_tolerations_are_added_once() -> None:
    template = copy.deepcopy(TEMPLATE)
    once = patched(template, _PREFILL, PodPatch(None, Place()))
    twice = patched(once, _PREFILL, PodPatch(None, Place()))
    assert (
        once["spec"]["tolerations"]
        == twice["spec"]["tolerations"]
        == [{"operator": "Equal", "key": "gpu", "value": "true", "effect": "NoSchedule"}]
    )


@pytest.mark.parametrize(
    ("spec", "message"),
    [({}, "no containers"), ({"containers": [{}], "nodeName": "n1"}, "past the scheduler")],
)
def test_templates_that_can_not_work_are_refused(spec: Object, message: str) -> None:
    with pytest.raises(EmissionError, match=message):
        patched({"spec": spec}, _PREFILL, PodPatch(None, Place()))


def test_places_by_node_and_by_domain() -> None:
    made = plan()
    assert place_of(made, "decode", "Node", 1) == Place((domain("leaf-1"),), ("n2",))
    assert place_of(made, "decode", "Node") == Place((domain("leaf-1"),), ("n2",))
    assert place_of(made, "decode", "Domain", 1) == Place((domain("leaf-1"),))
    prefill = place_of(made, "prefill", "Domain")
    assert [one.level for one in prefill.domains] == ["leaf", "host"]


def test_pods_say_whose_they_are_and_that_they_serve() -> None:
    made = own_pods(replica(), setting())
    pods = {one["metadata"]["name"]: one for one in made if one["kind"] == "Pod"}
    assert sorted(pods) == ["llama-0-decode-0", "llama-0-decode-1", "llama-0-prefill-0"]
    labels = pods["llama-0-decode-1"]["metadata"]["labels"]
    assert labels["inferway.dev/role"] == "decode"
    assert labels["inferway.dev/replica"] == "llama-0"
    assert labels["inferway.dev/serving"] == "true"
    assert labels["app"] == "llama"


def test_templates_are_not_changed() -> None:
    before = copy.deepcopy(TEMPLATE)
    own_pods(replica(), setting(name="special", priority_class_name="high"))
    assert before == TEMPLATE
