"""When a certificate ends, told from its bytes."""

from datetime import UTC, datetime, timedelta

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from gateway.certificates import not_after

AUTHORITY = trustme.CA()
PEM = AUTHORITY.issue_cert("127.0.0.1").cert_chain_pems[0].bytes()


@pytest.mark.parametrize("year", [2001, 2049, 2050, 2199])
def test_the_date_is_the_one_it_was_made_with(year: int) -> None:
    end = datetime(year, 2, 28, 23, 59, 58, tzinfo=UTC)
    start = end - timedelta(days=1)
    leaf = AUTHORITY.issue_cert("127.0.0.1", not_before=start, not_after=end)
    assert not_after(leaf.cert_chain_pems[0].bytes()) == end.timestamp()


def test_the_first_certificate_counts_and_other_text_does_not() -> None:
    end = datetime(2031, 1, 1, tzinfo=UTC)
    leaf = AUTHORITY.issue_cert("127.0.0.1", not_after=end).cert_chain_pems[0].bytes()
    text = "Größe: ein Wort\n".encode() + leaf + b"\n" + AUTHORITY.cert_pem.bytes()
    assert not_after(text) == end.timestamp()


@pytest.mark.parametrize("pem", [b"", b"\xff\xfe", b"-----BEGIN CERTIFICATE-----\n", PEM[:200]])
def test_what_is_no_certificate_is_refused(pem: bytes) -> None:
    with pytest.raises(ValueError, match="no certificate"):
        not_after(pem)


@given(st.integers(0, len(PEM) - 1), st.binary(max_size=4))
def test_a_damaged_certificate_is_read_or_refused(at: int, damage: bytes) -> None:
    try:
        not_after(PEM[:at] + damage + PEM[at + len(damage) :])
    except ValueError as error:
        assert str(error)
