"""Edited bodies say what they said, but for the fields that were to change."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.apis.editing import edited, fields_of

NAMES = st.sampled_from(["a", "b", "max_tokens", "stream", "n", 'q"uote', "é"])
VALUES = st.sampled_from(
    [None, True, 7, -1.5, "", "a, b}", 'quo"te\\', [], [1, {"a": "]"}], {"n": {"n": 1}}]
)
SIMPLE = st.sampled_from(["a", "b", "max_tokens", "stream", "n", "c"])


@given(
    st.dictionaries(NAMES, VALUES),
    st.dictionaries(SIMPLE, VALUES, max_size=3),
    st.dictionaries(SIMPLE, VALUES, max_size=3),
    st.sets(SIMPLE, max_size=2),
    st.sampled_from([None, 1, 2]),
    st.booleans(),
)
def test_only_what_was_named_changes(
    said: dict[str, Any],
    put: dict[str, Any],
    given_: dict[str, Any],
    drop: set[str],
    indent: int | None,
    ascii_only: bool,
) -> None:
    body = json.dumps(said, indent=indent, ensure_ascii=ascii_only).encode()
    first, second = (
        {name: json.dumps(value).encode() for name, value in fields.items()}
        for fields in (put, given_)
    )
    result = json.loads(edited(body, first, second, drop))
    expected = {name: value for name, value in said.items() if name not in drop}
    expected |= {name: value for name, value in given_.items() if name in said}
    expected |= {n: v for n, v in put.items() if not (n in given_ and n in said)} | {
        n: given_[n] for n in put if n in given_ and n in said
    }
    assert result == expected


def test_fields_that_stand_twice_are_set_once() -> None:
    body = b'{"a":1,"a":2,"\\u0061":3,"b":4}'
    assert edited(body, {"a": b"9"}) == b'{"a":9,"b":4}'
    assert fields_of(body) == {"a": b"3", "b": b"4"}


def test_what_stays_is_left_byte_for_byte() -> None:
    body = b'{ "x" : 1.50 ,\n "stream":true, "y":"\\u00e9" }'
    assert edited(body, {"k": b"1"}, drop={"stream"}) == (
        b'{"k":1, "x" : 1.50 \n , "y":"\\u00e9" }'
    )
