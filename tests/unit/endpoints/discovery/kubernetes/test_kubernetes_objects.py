"""What pools, pods, slices, objectives and rewrites mean."""

from typing import Any

import pytest

from endpoints.discovery.kubernetes.labels import NODE_LABELS, narrowed
from endpoints.discovery.kubernetes.pods import LabelRules, endpoints_of, takes_requests, trimmed
from endpoints.discovery.kubernetes.pools import H2C, MalformedError, pool_of
from endpoints.discovery.kubernetes.rules import rules_of
from endpoints.discovery.kubernetes.slices import endpoints_of_slices

RULES = LabelRules()


def pod(ip: str = "10.0.0.1", **metadata: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "p", "namespace": "n", **metadata},
        "spec": {"nodeName": "node", "containers": [{"name": "c"}]},
        "status": {
            "phase": "Running",
            "podIP": ip,
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def pool(**spec: Any) -> dict[str, Any]:
    whole = {"selector": {"matchLabels": {"b": "2", "a": ""}}, "targetPorts": [{"number": 80}]}
    return {"metadata": {"name": "p", "namespace": "n"}, "spec": {**whole, **spec}}


def test_a_pool_with_everything_and_with_the_least() -> None:
    spec = pool_of(
        pool(
            appProtocol=H2C,
            endpointPickerRef={"name": "e", "port": {"number": 9002}, "failureMode": "FailOpen"},
        )
    )
    assert (spec.full_name, spec.label_selector, spec.app_protocol) == ("n/p", "a=,b=2", H2C)
    assert spec.picker is not None
    assert (spec.picker.kind, spec.picker.port, spec.picker.fail_open) == ("Service", 9002, True)
    least = pool_of(pool())
    assert (least.picker, least.app_protocol, least.ports) == (None, "http", (80,))


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"selector": {"matchLabels": {}}}, "matchLabels is empty"),
        ({"targetPorts": []}, "has 0 entries"),
        ({"targetPorts": [{"number": one} for one in range(1, 10)]}, "has 9 entries"),
        ({"targetPorts": [{"number": 1}, {"number": 1}]}, "port number must be unique"),
        ({"targetPorts": [{"number": 70_000}]}, "is no port"),
        ({"endpointPickerRef": {"name": "e"}}, "port is required when kind is 'Service'"),
    ],
)
def test_a_pool_that_breaks_the_rules_is_told_which(spec: dict[str, Any], said: str) -> None:
    with pytest.raises(MalformedError, match=said):
        pool_of(pool(**spec))


def test_a_picker_of_another_kind_needs_no_port() -> None:
    spec = pool_of(pool(endpointPickerRef={"name": "e", "kind": "Picker", "group": "x.dev"}))
    assert spec.picker is not None
    assert (spec.picker.kind, spec.picker.port) == ("Picker", None)


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({}, True),
        ({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}, False),
        ({"metadata": {"labels": {"inferway.dev/serving": "false"}}}, False),
        ({"status": {"podIP": ""}}, False),
        ({"status": {"conditions": []}}, False),
        ({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}, False),
        ({"status": {"phase": "Succeeded"}}, False),
    ],
)
def test_who_takes_requests(change: dict[str, Any], wanted: bool) -> None:
    one = pod()
    for key, values in change.items():
        one[key].update(values)
    assert takes_requests(one) is wanted
    assert takes_requests(trimmed(one)) is wanted


def test_an_ipv6_pod_and_its_ranks() -> None:
    first, second = endpoints_of(pod("fd00:0::1"), (8000, 8001), {}, RULES)
    assert (first.name, first.url) == ("n/p:8000", "http://[fd00::1]:8000")
    assert [dict(one.labels)["rank"] for one in (first, second)] == ["0", "1"]


def test_one_port_is_no_rank_and_ports_can_be_narrowed() -> None:
    (only,) = endpoints_of(pod(), (8000,), {}, RULES)
    assert "rank" not in dict(only.labels)
    one = pod(annotations={"llm-d.ai/active-ports": "8001, 9"})
    assert [end.url for end in endpoints_of(one, (8000, 8001), {}, RULES)] == [
        "http://10.0.0.1:8001"
    ]


def test_what_labels_and_annotations_say() -> None:
    one = pod(
        labels={
            "app": "x",
            "llm-d.ai/role": "prefill",
            "llm-d.ai/engine-type": "trtllm-serve",
            "team": "t",
        },
        annotations={
            "inferway.dev/models": "m, m ,n",
            "inferway.dev/cache-tokens": "1000",
            "other": "y",
        },
    )
    node = {"topology.kubernetes.io/zone": "z", "node.kubernetes.io/instance-type": "p5"}
    (end,) = endpoints_of(one, (1,), node, LabelRules(pod=("te*",)))
    said = dict(end.labels)
    assert (end.engine, end.models, end.cache_tokens) == ("trtllm", ("m", "n"), 1000)
    assert (said["role"], said["engine"], said["zone"]) == ("prefill", "trtllm-serve", "z")
    assert (said["hardware"], end.hardware, said["team"]) == ("p5", "p5", "t")
    assert "app" not in said and "other" not in said
    assert endpoints_of(trimmed(one), (1,), node, RULES)[0].cache_tokens == 1000
    unknown = pod(labels={"inferway.dev/engine": "mine"})
    assert endpoints_of(unknown, (1,), {}, RULES)[0].engine is None  # it is found out


def test_node_labels_are_narrowed_by_patterns() -> None:
    labels = {"fabric.topograph.run/tier-0": "l", "x": "y", "nvidia.com/gpu.clique": "c"}
    assert narrowed(labels, NODE_LABELS) == {
        "fabric.topograph.run/tier-0": "l",
        "nvidia.com/gpu.clique": "c",
    }


def slices(*endpoints: dict[str, Any], **more: Any) -> dict[str, Any]:
    ports = [{"name": "http", "port": 80, "protocol": "TCP"}, {"name": "x", "port": 81}]
    return {"metadata": {"namespace": "n"}, "ports": ports, "endpoints": list(endpoints), **more}


def test_slices() -> None:
    member = {"addresses": ["10.0.0.1"], "zone": "z", "targetRef": {"kind": "Pod", "name": "a"}}
    other = {"addresses": ["fd00::2"], "conditions": {"ready": None}}
    found = endpoints_of_slices([slices(member, other), slices(member)], 80)
    assert [one.url for one in found] == ["http://10.0.0.1:80", "http://[fd00::2]:80"]
    assert dict(found[0].labels) == {"namespace": "n", "pod": "a", "zone": "z"}
    assert len(endpoints_of_slices([slices(member)], "x")) == 1
    assert len(endpoints_of_slices([slices(member)])) == 2
    assert not endpoints_of_slices([slices(member, addressType="FQDN")])


def rewrite(name: str, created: str, *rules: dict[str, Any], pool: str = "p") -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "n", "creationTimestamp": created},
        "spec": {"poolRef": {"name": pool}, "rules": list(rules)},
    }


def rule(targets: dict[str, int | None], *models: str) -> dict[str, Any]:
    return {
        "matches": [{"model": {"type": "Exact", "value": model}} for model in models],
        "targets": [
            {"modelRewrite": model, **({} if weight is None else {"weight": weight})}
            for model, weight in targets.items()
        ],
    }


def test_an_exact_match_beats_a_generic_one_and_the_oldest_object_wins() -> None:
    found = rules_of(
        "n",
        "p",
        [],
        [
            rewrite("young", "2026-02-01T00:00:00Z", rule({"late": 1}, "m")),
            rewrite(
                "old",
                "2026-01-01T00:00:00Z",
                rule({"all": None}),
                rule({"first": 1}, "m", "k"),
                rule({"second": 1}, "m"),
            ),
            rewrite("elsewhere", "2025-01-01T00:00:00Z", rule({"no": 1}, "m"), pool="other"),
        ],
    )
    targets = found.targets_of("m")
    assert targets is not None and (targets.models, targets.by) == (("first",), "old")
    assert found.targets_of("k") == targets
    generic = found.targets_of("anything")
    assert generic is not None and generic.models == ("all",)


def test_weights_are_shares_and_equal_where_none_is_given() -> None:
    found = rules_of("n", "p", [], [rewrite("a", "", rule({"x": 90, "y": 10}, "m"))])
    assert found.rewrites["m"].weights == (90, 10)
    found = rules_of("n", "p", [], [rewrite("a", "", rule({"x": None, "y": None}, "m"))])
    assert found.rewrites["m"].weights == (1, 1)
    assert not rules_of("n", "p", [], [rewrite("a", "", rule({}, "m"))])


def test_objectives_of_the_pool_and_its_namespace() -> None:
    def objective(name: str, namespace: str = "n", **spec: Any) -> dict[str, Any]:
        reference = {"poolRef": {"name": "p"}}
        metadata = {"name": name, "namespace": namespace}
        return {"metadata": metadata, "spec": {**reference, **spec}}

    found = rules_of(
        "n",
        "p",
        [
            objective("high", priority=5),
            objective("unset"),
            objective("far", "elsewhere", priority=9),
            objective("kind", priority=1, poolRef={"name": "p", "kind": "Service"}),
        ],
        [],
    )
    assert found.priorities == {"high": 5, "unset": 0}
