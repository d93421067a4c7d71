"""Splicing a JSON object: what it means afterwards, and that all other bytes stay."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.apis.splice import (
    MOST_FIELDS,
    TooManyFieldsError,
    given_fields,
    spans,
    without_fields,
)

NAMES = ("kv_transfer_params", "a", "a/b", 'q"\\', "é", "")
spaces = st.text(" \t\n\r", max_size=2)
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | numbers | st.text('a"\\,}]{[: é\n') | st.sampled_from(NAMES),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner),
    max_leaves=6,
)


@st.composite
def spelled(draw: st.DrawFn, text: str) -> str:
    """A JSON string in any of its spellings."""
    written = []
    for sign in text:
        plain = json.dumps(sign, ensure_ascii=False)[1:-1]
        escaped = "".join(
            f"\\u{unit:04x}" for unit in memoryview(sign.encode("utf-16-le")).cast("H")
        )
        choices = [plain, plain, escaped] + (["\\/"] if sign == "/" else [])
        written.append(draw(st.sampled_from(choices)))
    return '"' + "".join(written) + '"'


@st.composite
def objects(draw: st.DrawFn) -> tuple[bytes, list[tuple[str, Any]]]:
    """An object in any spelling, with names that may come twice, and what it holds."""
    names = st.sampled_from(NAMES) | st.text("ab\U0001f600", max_size=2)
    pairs = draw(st.lists(st.tuples(names, json_values), max_size=6))
    members = []
    for name, value in pairs:
        written = json.dumps(
            value,
            ensure_ascii=draw(st.booleans()),
            indent=draw(st.sampled_from([None, 1])),
        )
        gaps = [draw(spaces) for _ in range(4)]
        members.append(gaps[0] + draw(spelled(name)) + gaps[1] + ":" + gaps[2] + written + gaps[3])
    inside = ",".join(members) or draw(spaces)
    return (draw(spaces) + "{" + inside + "}" + draw(spaces)).encode(), pairs


def pairs_of(body: bytes) -> list[tuple[str, Any]]:
    """All fields in order, duplicates included; what is nested stays as a dictionary."""
    decoded = json.loads(body, object_pairs_hook=lambda pairs: pairs)
    plain = json.loads(body)
    assert isinstance(plain, dict)
    return [(name, as_dictionaries(value)) for name, value in decoded]


def as_dictionaries(value: Any) -> Any:
    if isinstance(value, list):
        if value and all(isinstance(one, tuple) for one in value):
            return {name: as_dictionaries(one) for name, one in value}
        return [as_dictionaries(one) for one in value]
    return value


def without_empties(value: Any) -> Any:
    """The same with empty objects as empty lists, which `pairs_of` can't tell apart."""
    if isinstance(value, dict):
        return {name: without_empties(one) for name, one in value.items()} or []
    if isinstance(value, list):
        return [without_empties(one) for one in value]
    return value


def same(found: list[tuple[str, Any]], expected: list[tuple[str, Any]]) -> bool:
    return [(n, without_empties(v)) for n, v in found] == [
        (n, without_empties(v)) for n, v in expected
    ]


some_names = st.sets(st.sampled_from(NAMES))


@given(objects(), some_names)
def test_taking_out_is_what_it_is_on_the_decoded_object(
    written: tuple[bytes, list[tuple[str, Any]]], names: set[str]
) -> None:
    body, pairs = written
    left = [(name, value) for name, value in pairs if name not in names]
    assert same(pairs_of(without_fields(body, names)), left)


@given(objects(), some_names)
def test_taking_out_touches_spans_and_a_comma_each_only(
    written: tuple[bytes, list[tuple[str, Any]]], names: set[str]
) -> None:
    body, pairs = written
    found = spans(body, names)
    assert len(found) == sum(name in names for name, _ in pairs)
    rest, at, taken = b"", 0, []
    for start, end in found:
        taken.append(body[start:end])
        rest += body[at:start]
        at = end
    rest += body[at:]
    after = without_fields(body, names)
    commas = min(len(found), max(0, len(pairs) - 1))
    assert len(after) == len(rest) - commas
    # What is left, in order, is what was there but for commas.
    left = iter(rest)
    assert all(byte in left for byte in after)
    assert sorted(rest.replace(b",", b"")) == sorted(after.replace(b",", b""))
    for member in taken:
        name, value = next(iter(json.loads(b"{" + member + b"}").items()))
        assert name in names
        assert value in [one for key, one in pairs if key == name]
    if not found:
        assert after is body


@given(objects(), some_names)
def test_given_fields_are_those_with_a_value(
    written: tuple[bytes, list[tuple[str, Any]]], names: set[str]
) -> None:
    body, pairs = written
    expected = dict.fromkeys(name for name, value in pairs if name in names and value is not None)
    assert given_fields(body, names) == tuple(expected)


@pytest.mark.parametrize(
    ("body", "after"),
    [
        (b'{"a":1}', b"{}"),
        (b'{"a":1,"x":2}', b'{"x":2}'),
        (b'{"x":2,"a":1}', b'{"x":2}'),
        (b'{"a":1,"x":2,"a":3}', b'{"x":2}'),
        (b'{ "x" : 2 , "a" : 1 }', b'{ "x" : 2   }'),
        (b'{"\\u0061":[{"x":"]}"}],"x":2}', b'{"x":2}'),
        (b'{"x":{"a":1}}', b'{"x":{"a":1}}'),
        (b'{"x":"\\"a\\":1,"}', b'{"x":"\\"a\\":1,"}'),
        (b'{"x":1.50e1,"a":-1E-7}', b'{"x":1.50e1}'),
    ],
)
def test_what_is_left(body: bytes, after: bytes) -> None:
    assert without_fields(body, {"a"}) == after


def test_an_object_of_very_many_fields_is_refused_at_once() -> None:
    body = b"{" + b",".join([b'"x":1'] * (MOST_FIELDS - 1)) + b',"a":1}'
    assert spans(body, {"a"}) == [(len(body) - 6, len(body) - 1)]
    more = body[:-1] + b',"x":1' * 100 + b"}"
    for operation in (spans, without_fields):
        with pytest.raises(TooManyFieldsError, match="more than 1000"):
            operation(more, {"a"})


@given(st.binary())
@example(b'{"a"')
@example(b'{"a":')
@example(b'{"a":1')
@example(b'{"a":1 "b":2}')
@example(b'{"a":1]')
@example(b'{"a":\\u')
@example(b'{a:1,"\\u0061":2}')
@example(b'["a"]')
def test_what_is_no_object_is_refused_or_left_alone(tail: bytes) -> None:
    body = tail if tail[:1] in (b"{", b"[") else b'{"a":1' + tail
    for operation in (spans, without_fields):
        try:
            operation(body, {"a"})
        except ValueError as error:
            assert str(error)
