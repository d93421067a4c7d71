"""Quantities and versions, as Kubernetes reads, writes and orders them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoints.allocation.quantity import NANO, parse_quantity, written_quantity
from endpoints.allocation.semver import compare, normalised_semver, parse_semver


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("1", NANO),
        ("80Gi", 80 * 1024**3 * NANO),
        ("81559Mi", 81559 * 1024**2 * NANO),
        ("500m", NANO // 2),
        ("1e3", 1_000 * NANO),
        ("1.5k", 1_500 * NANO),
        ("-2", -2 * NANO),
        ("1n", 1),
        ("0.1n", 1),  # smaller parts are rounded away from zero
        ("2E", 2 * 10**18 * NANO),
        ("2e2", 200 * NANO),
        ("1Ei", 1024**6 * NANO),
        (7, 7 * NANO),
    ],
)
def test_reading(text: str | int, value: int) -> None:
    assert parse_quantity(text) == value


@pytest.mark.parametrize("text", ["", "Gi", "80GiB", "1 Gi", "1,5", "0x10", "1e", "--1", "1K"])
def test_what_is_no_quantity(text: str) -> None:
    with pytest.raises(ValueError, match="is no quantity"):
        parse_quantity(text)


def test_true_is_no_quantity() -> None:
    with pytest.raises(ValueError, match="is no quantity"):
        parse_quantity(True)


@given(st.integers(0, 10**30))
def test_written_is_read_again(nanos: int) -> None:
    assert parse_quantity(written_quantity(nanos)) == nanos


def test_written_form_is_the_usual_one() -> None:
    shown = [written_quantity(parse_quantity(one)) for one in ("80Gi", "500m", "1024", "3", "0")]
    assert shown == ["80Gi", "500m", "1Ki", "3", "0"]


def test_the_order_of_semver_org() -> None:
    texts = (
        *("1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2"),
        *("1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "1.0.1", "1.2.0", "10.0.0"),
    )
    versions = [parse_semver(one) for one in texts]
    mixed = versions[::2] + versions[1::2]
    assert sorted(mixed, key=lambda one: one.order) == versions
    assert compare(versions[0], versions[1]) == -1


def test_build_metadata_orders_nothing() -> None:
    assert compare(parse_semver("1.0.0+a"), parse_semver("1.0.0+b")) == 0


@pytest.mark.parametrize("text", ["1.0", "v1.0.0", "1.0.0-", "01.0.0", "1.0.0-01", "1.0.0.0", ""])
def test_what_is_no_version(text: str) -> None:
    with pytest.raises(ValueError, match="no semantic version"):
        parse_semver(text)


def test_normalising() -> None:
    assert str(normalised_semver("v1.02")) == "1.2.0"
    assert str(normalised_semver("1-rc.1+b")) == "1.0.0-rc.1+b"
