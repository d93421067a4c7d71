"""What can be set of a cluster."""

import re
from pathlib import Path

import msgspec
import pytest

from gateway.config import ConfigError, from_text
from gateway.settings import KubernetesSettings

DOCUMENT = Path(__file__).parents[3] / "docs/kubernetes.md"


def test_the_least() -> None:
    found = from_text("kubernetes: {}", "").kubernetes
    assert found is not None
    assert found.discovery().namespaces == ("default",)
    assert found.cluster().where == "this cluster"


def test_everywhere_and_services() -> None:
    text = "kubernetes: {namespaces: ['*'], services: [{name: a, port: http}, {name: b, port: 1}]}"
    found = from_text(text, "").kubernetes
    assert found is not None
    settings = found.discovery()
    assert settings.namespaces == ()
    assert [one.port for one in settings.services] == ["http", 1]
    assert settings.services[0].namespace == "default"


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("kubernetes: {url: http://x, kubeconfig: y}", "kubernetes.kubeconfig"),
        ("kubernetes: {token_file: y}", "kubernetes.token_file"),
        ("kubernetes: {ca_file: y}", "kubernetes.ca_file"),
        ("kubernetes: {context: y}", "kubernetes.context"),
        ("kubernetes: {rule_groups: [x]}", "kubernetes.rule_groups"),
        ("kubernetes: {inference_pools: false}", "kubernetes.services"),
        ("kubernetes: {namespace: x}", "kubernetes.namespace"),
    ],
)
def test_a_mistake_is_named(text: str, path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_text(text, "")
    assert caught.value.problems[0].path == path


def test_the_documentation_has_every_key_and_its_default() -> None:
    rows = re.findall(r"^\| `([a-z_]+)` \| `(.+?)` \|", DOCUMENT.read_text(), re.M)
    expected = []
    for field in msgspec.structs.fields(KubernetesSettings):
        factory = field.default_factory
        default = field.default if factory is msgspec.NODEFAULT else factory()
        text = default if isinstance(default, str) else msgspec.json.encode(default).decode()
        expected.append((field.name, text))
    assert sorted(rows) == sorted(expected)
