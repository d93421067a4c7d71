"""A model's name changes, and no other byte."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.apis.renaming import with_model


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"model":"a"}', b'{"model":"new"}'),
        (b'{ "model" : "a" , "n":1.0}', b'{ "model":"new" , "n":1.0}'),
        (b'{"n":1e5,"model":null}', b'{"n":1e5,"model":"new"}'),
        (b'{"model":"a","model":"b"}', b'{"model":"new","model":"new"}'),
        (b'{"m\\u006fdel":"a"}', b'{"model":"new"}'),
        (b'{"x":{"model":"a"}}', b'{"x":{"model":"a"}}'),
    ],
)
def test_the_name_alone_changes(body: bytes, expected: bytes) -> None:
    assert with_model(body, "new") == expected


def test_names_are_quoted() -> None:
    assert with_model(b'{"model":"a"}', 'a"\\') == b'{"model":"a\\"\\\\"}'


@given(
    st.dictionaries(
        st.text(max_size=8), st.one_of(st.text(), st.integers(), st.lists(st.floats(0, 1)))
    ),
    st.text(min_size=1),
)
def test_the_meaning_is_the_same_but_for_the_model(body: dict[str, object], name: str) -> None:
    given_body = {**body, "model": "old"}
    encoded = json.dumps(given_body).encode()
    assert json.loads(with_model(encoded, name)) == {**given_body, "model": name}
