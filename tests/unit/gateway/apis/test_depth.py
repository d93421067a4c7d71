import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.apis.depth import deeper_than

values = st.recursive(
    st.none() | st.integers() | st.text('[]{}"\\ab'),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text('[{"\\'), inner, max_size=4)
    ),
    max_leaves=40,
)


def depth_of(value: object) -> int:
    if isinstance(value, list):
        return 1 + max((depth_of(one) for one in value), default=0)
    if isinstance(value, dict):
        return 1 + max((depth_of(one) for one in value.values()), default=0)
    return 0


@given(values, st.integers(0, 6))
def test_depth_is_that_of_the_value(value: object, limit: int) -> None:
    assert deeper_than(json.dumps(value).encode(), limit) == (depth_of(value) > limit)


@given(st.binary(max_size=200), st.integers(0, 5))
def test_any_bytes_have_an_answer(body: bytes, limit: int) -> None:
    assert deeper_than(body, limit) in {True, False}


@pytest.mark.parametrize("body", [b"", b'"[[[[', b'"\\', b'{"a":"[[[["}'])
def test_brackets_in_strings_do_not_count(body: bytes) -> None:
    assert not deeper_than(body, 1)


def test_a_long_flat_body_is_not_deep() -> None:
    assert not deeper_than(b"[" + b"[]," * 100_000 + b"[]]", 2)
    assert deeper_than(b"[" * 100_000, 99_999)
