"""Reading the one fact of an X.509 certificate that we need: until when it is valid.

The standard library decodes a certificate only after a verified handshake, and an expired one
never gets there; a whole X.509 library for one date would be too much. DER is nested
tag-length-value, and the date has a fixed place (RFC 5280 section 4.1)::

    Certificate    ::= SEQUENCE { tbsCertificate, ... }
    tbsCertificate ::= SEQUENCE { [0] version OPTIONAL, serialNumber, signature, issuer,
                                  validity SEQUENCE { notBefore Time, notAfter Time }, ... }
"""

import re
import ssl
from datetime import UTC, datetime

_PEM = re.compile(
    "-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\\s]+-----END CERTIFICATE-----", re.ASCII
)
_VERSION = 0xA0
_UTC_TIME = 0x17


def not_after(pem: bytes) -> float:
    """When the first certificate in a PEM file ends, as Unix time in seconds.

    Raises ValueError for a file without a certificate that can be read.
    """
    found = _PEM.search(pem.decode("ascii", errors="replace"))
    if found is None:
        raise ValueError("it holds no certificate in PEM format")
    der = ssl.PEM_cert_to_DER_cert(found[0])
    try:
        return _not_after_in(der)
    except IndexError as error:
        raise ValueError("its certificate is cut off") from error


def _not_after_in(der: bytes) -> float:
    _, certificate, _ = _element(der, 0)
    _, at, _ = _element(der, certificate)
    if der[at] == _VERSION:
        at = _element(der, at)[2]
    for _field in ("serialNumber", "signature", "issuer"):
        at = _element(der, at)[2]
    _, not_before, _ = _element(der, at)
    tag, start, end = _element(der, _element(der, not_before)[2])
    text = der[start:end].decode("ascii")
    if tag == _UTC_TIME:  # two digits of the year: 1950 to 2049
        text = ("19" if text >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _element(der: bytes, at: int) -> tuple[int, int, int]:
    """The tag at a position, and where its content starts and ends."""
    length, start = der[at + 1], at + 2
    if length & 0x80:  # the length's own length comes first
        start += length & 0x7F
        length = int.from_bytes(der[at + 2 : start])
    return der[at], start, start + length
