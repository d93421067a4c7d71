"""The `extproc` section: what it may hold, and that docs/extproc.md says so."""

import re
from pathlib import Path

import msgspec
import pytest

from gateway.config import ConfigError, from_text
from gateway.settings import ExtProcSettings

DOCUMENT = Path(__file__).parents[3] / "docs" / "extproc.md"


def test_an_empty_section_takes_the_defaults() -> None:
    assert from_text("extproc: {}", "").extproc == ExtProcSettings()
    assert from_text("{}", "").extproc is None


def test_rewrites_have_targets_with_weights() -> None:
    found = from_text("extproc: {rewrites: {food: {food-v1: 90, food-v2: 10}}}", "").extproc
    assert found is not None
    assert found.rewrites == {"food": {"food-v1": 90, "food-v2": 10}}


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("extproc: {port: 8080}", "extproc.port"),
        ("extproc: {port: 9090}", "extproc.port"),
        ("extproc: {prot: 1}", "extproc.prot"),
        ("extproc: {learn: 2}", "extproc.learn"),
        ("extproc: {rewrites: {a: {b: 0}}}", "extproc.rewrites"),
        ("extproc: {max_message_bytes: 1024}", "extproc.max_message_bytes"),
        ("extproc: {self_signed: true, tls: {certificate: c, key: k}}", "extproc.self_signed"),
        ("extproc: {picker_config: /nowhere.yaml}", "extproc.picker_config"),
    ],
)
def test_a_mistake_is_named(text: str, path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_text(text, "")
    assert caught.value.problems[0].path.startswith(path)


def test_alone_it_may_have_the_clients_port() -> None:
    assert from_text("extproc: {port: 8080, alone: true}", "").extproc is not None


def test_the_documentation_has_every_key_and_its_default() -> None:
    rows = re.findall(r"^\| `([a-z_]+)` \| `(.+?)` \|", DOCUMENT.read_text(), re.M)
    expected = []
    for field in msgspec.structs.fields(ExtProcSettings):
        factory = field.default_factory
        default = field.default if factory is msgspec.NODEFAULT else factory()
        text = default if isinstance(default, str) else msgspec.json.encode(default).decode()
        expected.append((field.name, text))
    assert sorted(rows) == sorted(expected)
