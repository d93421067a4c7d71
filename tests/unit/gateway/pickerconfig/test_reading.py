"""EndpointPickerConfig files: what they mean here, and what is said about those that can't be."""

import pytest

from gateway.config import ConfigError, from_text
from gateway.pickerconfig import PickerConfigError, read
from gateway.pickerconfig.plugins import supported
from routing.fleet import Load
from routing.policies.scored import Scored
from tests.support.slates import chain_of, endpoints, pick, request_of

LLMD = """
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
featureGates: [flowControl]
plugins:
- type: prefix-cache-scorer
- type: queue-scorer
- {type: kv-cache-utilization-scorer, name: kv}
- type: approx-prefix-cache-producer
  parameters: {autoTune: true, blockSizeTokens: 16, maxPrefixBlocksToMatch: 256}
- type: max-score-picker
  parameters: {maxNumOfEndpoints: 2}
- type: utilization-detector
  parameters: {queueDepthThreshold: 5, kvCacheUtilThreshold: 0.8}
schedulingProfiles:
- name: default
  plugins:
  - {pluginRef: prefix-cache-scorer, weight: 3}
  - {pluginRef: queue-scorer, weight: 2}
  - {pluginRef: kv}
  - {pluginRef: max-score-picker}
saturationDetector: {pluginRef: utilization-detector}
flowControl: {maxBytes: 2Gi, priorityBands: [{priority: 100}]}
"""
HEAD = "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\n"


def problems(text: str) -> str:
    with pytest.raises(PickerConfigError) as caught:
        read(text.encode(), "picker.yaml")
    return str(caught.value)


def test_a_profile_with_weights() -> None:
    config = read(LLMD.encode(), "picker.yaml")
    policy = config.make_policy()
    assert isinstance(policy, Scored)
    assert config.fallbacks == 1
    assert not config.test_selection
    states = endpoints(2)
    states[0].load = Load(0.0, waiting=0, kv_usage=0.5)
    states[1].load = Load(0.0, waiting=4, kv_usage=0.0)
    [first, second] = pick(policy, states, request_of(chain_of("x", 4)), held={"e1": 4.0})
    assert (first.endpoint.name, first.score) == ("e1", -4.0)  # 3 x 1 + 2 x 0 + 1 x 1
    assert (second.endpoint.name, second.score) == ("e0", -2.5)  # 3 x 0 + 2 x 1 + 1 x 0.5
    assert first.reason == "4.000: prefix-cache-scorer 1.00, queue-scorer 0.00, kv 1.00"


def test_what_is_done_differently_is_said() -> None:
    notes = "\n".join(read(LLMD.encode(), "picker.yaml").notes)
    assert "flowControl: tenants (fairness ids) always get fair shares" in notes
    assert "approx-prefix-cache-producer" in notes
    assert "utilization-detector" in notes


def test_both_groups_are_read() -> None:
    old = LLMD.replace("llm-d.ai/", "inference.networking.x-k8s.io/")
    assert read(old.encode(), "picker.yaml").fallbacks == 1


def test_an_empty_file_means_the_default_weights() -> None:
    policy = read(HEAD.encode(), "picker.yaml").make_policy()
    states = endpoints(1)
    states[0].load = Load(0.0, waiting=3, kv_usage=0.25)
    [choice] = pick(policy, states, request_of(chain_of("x", 4)), held={"e0": 2.0})
    assert choice.score == -(3 * 0.5 + 2 * 1.0 + 2 * 0.75)


def test_without_a_profile_every_plugin_counts_one() -> None:
    text = HEAD + "plugins: [{type: queue-scorer}, {type: random-picker}]\n"
    config = read(text.encode(), "picker.yaml")
    assert config.fallbacks == 0
    assert isinstance(config.make_policy(), Scored)


def test_predictions_are_our_own() -> None:
    text = HEAD + "plugins: [{type: latency-scorer}, {type: predicted-latency-producer}]\n"
    config = read(text.encode(), "picker.yaml")
    assert config.make_policy().name == "predicted_time"
    assert any("predicted_time" in note for note in config.notes)


def test_the_header_filter_of_the_conformance_suite() -> None:
    text = HEAD + "plugins: [{type: header-based-testing-filter}]\n"
    assert read(text.encode(), "picker.yaml").test_selection


def test_an_unknown_plugin_is_named_with_all_that_are_supported() -> None:
    said = problems(HEAD + "plugins: [{type: queue-scorre}]\n")
    assert "plugins[0].type" in said
    assert "did you mean queue-scorer?" in said
    for name in supported():
        assert name in said


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[]", "expected a mapping"),
        (HEAD.replace("v1alpha1", "v9"), "apiVersion"),
        (HEAD.replace("EndpointPickerConfig", "Pod"), "kind"),
        (HEAD + "pluginss: []\n", "did you mean plugins"),
        (HEAD + "featureGates: [flowControll]\n", "unknown gate 'flowControll'"),
        (HEAD + "plugins: [{type: session-affinity-scorer}]\n", "not supported"),
        (HEAD + "plugins: [{type: queue-scorer}, {type: queue-scorer}]\n", "plugins[0] already"),
        (
            HEAD + "plugins: [{type: queue-scorer, parameters: {size: 1}}]\n",
            "there is no parameter 'size'; it has none",
        ),
        (
            HEAD + "plugins: [{type: load-aware-scorer, parameters: {threshold: many}}]\n",
            "threshold must be a number",
        ),
        (
            HEAD + "plugins: [{type: max-score-picker, parameters: {maxNumOfEndpoints: 0}}]\n",
            "maxNumOfEndpoints must be a whole number from 1",
        ),
        (
            HEAD + "plugins: [{type: random-picker}, {type: max-score-picker}]\n"
            "schedulingProfiles: [{name: a, plugins: "
            "[{pluginRef: random-picker}, {pluginRef: max-score-picker}]}]\n",
            "there may be one picker",
        ),
        (
            HEAD + "plugins: [{type: queue-scorer}]\n"
            "schedulingProfiles: [{name: a, plugins: [{pluginRef: queue}]}]\n",
            "no plugin 'queue'",
        ),
        (
            HEAD + "plugins: [{type: queue-scorer}]\n"
            "schedulingProfiles: [{name: a, plugins: [{pluginRef: queue-scorer, weight: -1}]}]\n",
            "-1",
        ),
        (
            HEAD + "schedulingProfiles: [{name: decode}, {name: prefill}]\n",
            "2 profiles; one is supported",
        ),
    ],
)
def test_what_is_wrong_is_said(text: str, expected: str) -> None:
    assert expected in problems(text)


def test_our_own_settings_name_the_file(tmp_path: object) -> None:
    with pytest.raises(ConfigError, match=r"extproc\.picker_config"):
        from_text(f"extproc: {{picker_config: {tmp_path}/nothing.yaml}}", "inferway.yaml")


FLOWS = """
featureGates: [flowControl]
plugins: [{type: round-robin-fairness-policy}, {type: edf-ordering-policy}, {type: queue-scorer}]
flowControl:
  maxBytes: 2Gi
  maxRequests: 500
  defaultRequestTTL: 1m30s
  defaultPriorityBand: {maxRequests: 50}
  priorityBands:
  - {priority: 100, maxBytes: 500M, fairnessPolicyRef: round-robin-fairness-policy}
  - {priority: -10, maxRequests: 7, orderingPolicyRef: edf-ordering-policy}
"""


def test_flow_control_is_a_line_with_its_bounds() -> None:
    admission = read((HEAD + FLOWS).encode(), "picker.yaml").admission
    assert admission is not None
    assert (admission.max_bytes, admission.max_requests, admission.patience) == (2 << 30, 500, 90.0)
    bands = {number: (one.max_requests, one.max_bytes) for number, one in admission.bands.items()}
    assert bands == {100: (None, 500_000_000), -10: (7, 1_000_000_000)}
    assert admission.other_bands.max_requests == 50
    bounds = admission.bounds()
    assert bounds.bands[-10].requests == 7


def test_flow_control_without_its_gate_is_off_and_said_to_be() -> None:
    config = read((HEAD + "flowControl: {maxRequests: 5}\n").encode(), "picker.yaml")
    assert config.admission is None
    assert "of no effect without the feature gate" in "".join(config.notes)


def test_the_gate_alone_has_no_bounds_but_those_of_bands() -> None:
    config = read((HEAD + "featureGates: [flowControl]\n").encode(), "picker.yaml")
    assert config.admission is not None
    assert config.admission.patience == 86_400.0
    assert config.admission.other_bands.max_bytes == 1_000_000_000


@pytest.mark.parametrize(
    ("section", "part"),
    [
        ("{maxBytes: many}", "maxBytes: 'many' is no quantity"),
        ("{maxBytes: -5}", "must not be negative"),
        ("{defaultRequestTTL: soon}", "'soon' is no duration"),
        ("{priorityBands: [{maxRequests: 1}]}", "priorityBands[0] has no priority"),
        ("{priorityBands: [{priority: 1}, {priority: 1}]}", "a band of priority 1 already"),
        ("{maxRequests: -1}", "maxRequests is -1"),
        ("{maxRequest: 1}", "maxRequest"),
    ],
)
def test_what_is_wrong_with_flow_control_is_said(section: str, part: str) -> None:
    assert part in problems(HEAD + f"flowControl: {section}\n")
