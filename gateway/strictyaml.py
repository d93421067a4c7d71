"""YAML bytes -> plain data, without what PyYAML lets through."""

from typing import Any

import yaml


class YamlError(ValueError):
    """Not YAML, or YAML that would lose something; the message says where."""


class _Loader(yaml.SafeLoader):
    """A key that stands twice is an error: one of its values would be lost silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuse what YAML forbids and its safe loader allows."""
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        problem=f"the key {key.value!r} stands here twice",
                        problem_mark=key.start_mark,
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def parse(content: bytes) -> object:
    """The document in UTF-8 ``content``; None when it holds nothing."""
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise YamlError(f"byte {error.start} is not UTF-8; save the file as UTF-8") from error
    try:
        return yaml.load(text, _Loader)  # noqa: S506 (a SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
        raise YamlError(f"{where}{error.problem or 'not YAML'}") from error
    except (yaml.YAMLError, ValueError) as error:  # a bad character; a date that can't be
        raise YamlError(f"not YAML: {error}") from error
