"""Scaled pools in the configuration: what they mean, and which mistakes are named."""

import pytest

from endpoints.scaling.role import Role
from gateway.capacity import advises_only, scaling_settings
from gateway.config import ConfigError, from_text

_TEXT = """
scaling:
  namespace: inference
  pools:
    default:
      models: [llama]
      idle: 600
      objective: {ttft: 1.0, itl: 0.03}
      budget: 12
      up: {percent: 50, replicas: 2, period: 30}
      roles:
        prefill: {min: 0, max: 4, cost: 2, target: {name: prefill, namespace: other}}
        decode: {min: 0, max: 8, target: {name: decode, kind: StatefulSet}}
  keda: {port: 0}
"""


def _problems(text: str) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        from_text(text, "test.yaml")
    return {problem.path: problem.message for problem in caught.value.problems}


def test_a_scaled_pool_is_read_and_means_what_it_says() -> None:
    settings = from_text(_TEXT, "test.yaml")
    assert settings.scaling is not None
    pool = settings.scaling.pools["default"]
    assert not advises_only(pool)
    scaling = scaling_settings(pool, settings.routing.objective)
    assert (scaling.roles[Role.PREFILL].most, scaling.roles[Role.PREFILL].costs) == (4, 2)
    assert scaling.roles[Role.DECODE].least == 0
    assert (scaling.objective.ttft, scaling.objective.itl) == (1.0, 0.03)
    assert (scaling.budget, scaling.idle, scaling.edit_hold) == (12, 600.0, 600.0)
    assert (scaling.up.percent, scaling.up.replicas, scaling.up.window) == (50.0, 2, 0.0)
    assert (scaling.down.window, scaling.down.reversal) == (300.0, 120.0)


def test_where_others_act_what_they_do_is_no_edit() -> None:
    text = "scaling: {pools: {default: {roles: {both: {}}}}}"
    settings = from_text(text, "test.yaml")
    assert settings.scaling is not None
    pool = settings.scaling.pools["default"]
    assert advises_only(pool)
    scaling = scaling_settings(pool, settings.routing.objective)
    assert scaling.edit_hold == 0.0
    assert scaling.objective.ttft == settings.routing.objective.ttft  # the pool has none of its own


@pytest.mark.parametrize(
    ("role", "where", "part"),
    [
        ("both: {command: [vllm]}", "roles.both.command", "{port}"),
        ("both: {target: {name: x}, command: ['{port}']}", "roles.both", "not both"),
        ("both: {min: 5, max: 2, target: {name: x}}", "", "most is 2"),
        ("prefill: {target: {name: x}}", "", "prefill needs decode"),
        ("prefill: {target: {name: x}}, decode: {}", "roles", "or none"),
    ],
)
def test_mistakes_are_named(role: str, where: str, part: str) -> None:
    found = _problems(f"scaling: {{pools: {{default: {{roles: {{{role}}}}}}}}}")
    path = "scaling.pools.default" + (f".{where}" if where else "")
    assert part in found[path]


def test_an_unknown_policy_is_named_with_those_there_are() -> None:
    text = "scaling: {pools: {default: {policy: cpu, roles: {both: {}}}}}"
    assert "objective" in _problems(text)["scaling.pools.default.policy"]
