"""The stand-in for the API server, as far as no real client shows it in tests/cluster."""

from typing import Any

import pytest

from bench.apiserver.access import Access, Attempt
from bench.apiserver.failures import StatusError
from bench.apiserver.fields import from_v1, to_v1
from bench.apiserver.kinds import Catalogue, Kind
from bench.apiserver.patching import json_patch, merge_patch
from bench.apiserver.selectors import field_selector, label_selector
from bench.apiserver.store import Store, Writer


def kind(group: str, version: str, plural: str) -> Kind:
    found = Catalogue().find(group, version, plural)
    assert found is not None
    return found


POOLS = kind("inference.networking.k8s.io", "v1", "inferencepools")
PODS = kind("", "v1", "pods")


def apply(store: Store, manager: str, subresource: str = "", **fields: Any) -> dict[str, Any]:
    item = {
        "apiVersion": "inference.networking.k8s.io/v1",
        "kind": "InferencePool",
        "metadata": {"name": "p"},
        **fields,
    }
    return store.apply(POOLS, "n", "p", item, Writer(manager, subresource))


def condition(kind: str, status: str) -> dict[str, Any]:
    return {"type": kind, "status": status}


def test_items_of_keyed_lists_are_owned_one_by_one() -> None:
    store = Store()
    store.create(POOLS, "n", {"metadata": {"name": "p"}, "spec": {}})
    apply(store, "one", "status", status={"conditions": [condition("A", "True")]})
    both = apply(store, "two", "status", status={"conditions": [condition("B", "True")]})
    assert [one["type"] for one in both["status"]["conditions"]] == ["A", "B"]
    with pytest.raises(StatusError, match=r"conditions\[type=\"A\"\]\.status"):
        apply(store, "two", "status", status={"conditions": [condition("A", "False")]})
    after = apply(store, "two", "status", status={})
    assert [one["type"] for one in after["status"]["conditions"]] == ["A"]
    assert after["metadata"]["generation"] == 1


def test_an_update_takes_fields_over() -> None:
    store = Store()
    apply(store, "one", spec={"appProtocol": "http", "selector": {"matchLabels": {"a": "1"}}})
    item = store.get(POOLS, "n", "p")
    changed = {**item, "spec": {**item["spec"], "appProtocol": "kubernetes.io/h2c"}}
    store.update(POOLS, "n", "p", changed, Writer("two"))
    with pytest.raises(StatusError, match='conflict with "two"'):
        apply(store, "one", spec={"appProtocol": "http"})
    assert store.get(POOLS, "n", "p")["metadata"]["generation"] == 2


def test_field_sets_are_written_and_read() -> None:
    paths = {("spec", "replicas"), ("status", "conditions", (("type", "A"),), "status")}
    assert set(from_v1(to_v1(paths))) == paths


def test_a_write_that_changes_nothing_is_no_event() -> None:
    store = Store()
    made = store.create(PODS, "n", {"metadata": {"name": "p"}})
    store.update(PODS, "n", "p", made)
    assert len(store.since(0 if store.forgotten == 0 else store.forgotten)) == 1


def test_a_pod_on_a_node_waits_for_its_kubelet() -> None:
    store = Store()
    store.create(PODS, "n", {"metadata": {"name": "p"}, "spec": {"nodeName": "x"}})
    store.delete(PODS, "n", "p")
    assert store.get(PODS, "n", "p")["metadata"]["deletionTimestamp"]
    store.delete(PODS, "n", "p", {"gracePeriodSeconds": 0})
    with pytest.raises(StatusError, match="not found"):
        store.get(PODS, "n", "p")


def test_an_old_version_is_forgotten_with_the_history() -> None:
    store = Store(history=2)
    for number in range(4):
        store.create(PODS, "n", {"metadata": {"name": f"p{number}"}})
    assert len(store.since(store.forgotten)) == 2
    with pytest.raises(StatusError, match="too old"):
        store.since(store.forgotten - 1)


@pytest.mark.parametrize(
    ("selector", "labels", "matches"),
    [
        ("a=1,b!=2", {"a": "1"}, True),
        ("a in (1, 2),!c", {"a": "2"}, True),
        ("a notin (1)", {"a": "1"}, False),
        ("a,b", {"a": ""}, False),
    ],
)
def test_label_selectors(selector: str, labels: dict[str, str], matches: bool) -> None:
    assert label_selector(selector)({"metadata": {"labels": labels}}) is matches


def test_field_selectors() -> None:
    item = {"metadata": {"name": "x"}, "spec": {"nodeName": "n"}, "status": {"phase": "Running"}}
    assert field_selector("metadata.name=x,spec.nodeName==n,status.phase!=Failed")(item)
    with pytest.raises(StatusError, match="not supported"):
        field_selector("spec.color=red")


def test_patches() -> None:
    assert merge_patch({"a": {"b": 1, "c": 2}}, {"a": {"b": None, "d": [1]}}) == {
        "a": {"c": 2, "d": [1]}
    }
    document = {"a": [1, 2], "b/c": {}}
    operations = [
        {"op": "add", "path": "/a/-", "value": 3},
        {"op": "remove", "path": "/a/0"},
        {"op": "move", "from": "/a", "path": "/b~1c/x"},
    ]
    assert json_patch(document, operations) == {"b/c": {"x": [2, 3]}}
    assert document == {"a": [1, 2], "b/c": {}}
    with pytest.raises(StatusError):
        json_patch(document, [{"op": "replace", "path": "/none", "value": 1}])


def test_rules_of_roles() -> None:
    access = Access(tokens={"t": "us"})
    assert access.user_of("Bearer t") == "us"
    with pytest.raises(StatusError, match="Unauthorized"):
        access.user_of(None)
    rule = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}
    access.grant("us", [rule], "n")
    access.check(Attempt("us", "list", "", "pods", "n"))
    for attempt in (
        Attempt("us", "list", "", "pods"),
        Attempt("us", "watch", "", "pods", "n"),
        Attempt("us", "list", "", "pods/status", "n"),
    ):
        with pytest.raises(StatusError, match="is forbidden"):
            access.check(attempt)
