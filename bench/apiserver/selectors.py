"""Label and field selectors as list and watch queries write them."""

import re
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from bench.apiserver.failures import bad_request

Matches: TypeAlias = Callable[[dict[str, Any]], bool]

_SET: Final = re.compile(r"\s*([^\s!=,()]+)\s+(in|notin)\s+\(([^)]*)\)\s*")
_EQUAL: Final = re.compile(r"\s*([^\s!=,()]+)\s*(==|!=|=)\s*([^,()]*?)\s*")
_EXISTS: Final = re.compile(r"\s*(!?)\s*([^\s!=,()]+)\s*")
_FIELDS: Final = frozenset(
    {
        "metadata.name",
        "metadata.namespace",
        "spec.nodeName",
        "spec.driver",
        "status.phase",
        "status.podIP",
        "type",
        "involvedObject.name",
        "involvedObject.uid",
        "reason",
    }
)


def everything(_item: dict[str, Any]) -> bool:
    """No selector."""
    return True


def label_selector(text: str) -> Matches:
    """``a=b,c!=d,e in (f,g),h,!i``; the requirements all hold."""
    tests = [_label_test(part) for part in _split(text)]

    def matches(item: dict[str, Any]) -> bool:
        labels = item["metadata"].get("labels") or {}
        return all(test(labels) for test in tests)

    return matches if tests else everything


def field_selector(text: str) -> Matches:
    """``metadata.name=x,status.phase!=Failed``, of the fields that real servers support."""
    tests: list[tuple[list[str], bool, str]] = []
    for part in filter(None, text.split(",")):
        found = _EQUAL.fullmatch(part)
        if found is None or found[1] not in _FIELDS:
            raise bad_request(f"field label not supported: {part}")
        tests.append((found[1].split("."), found[2] == "!=", found[3]))

    def matches(item: dict[str, Any]) -> bool:
        return all((_value(item, path) == value) is not negated for path, negated, value in tests)

    return matches if tests else everything


def _split(text: str) -> list[str]:
    return [part for part in re.split(r",(?![^(]*\))", text) if part.strip()]


def _label_test(part: str) -> Callable[[dict[str, str]], bool]:
    if found := _SET.fullmatch(part):
        key, negated = found[1], found[2] == "notin"
        values = {value.strip() for value in found[3].split(",")}
        return lambda labels: (labels.get(key) in values) is not negated
    if found := _EQUAL.fullmatch(part):
        key, differs, value = found[1], found[2] == "!=", found[3]
        return lambda labels: (labels.get(key) == value) is not differs
    if found := _EXISTS.fullmatch(part):
        key, absent = found[2], bool(found[1])
        return lambda labels: (key in labels) is not absent
    raise bad_request(f"unable to parse requirement: {part!r}")


def _value(item: dict[str, Any], path: list[str]) -> str:
    value: Any = item
    for part in path:
        value = value.get(part) if isinstance(value, dict) else None
    return "" if value is None else str(value)
