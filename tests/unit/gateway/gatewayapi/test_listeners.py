"""Certificates of listeners."""

import base64

import pytest
import trustme

from gateway.gatewayapi.listeners import certificate_in
from gateway.gatewayapi.snapshot import Object
from tests.support.gatewayobjects import (
    conditions,
    gateway,
    item,
    keyed,
    listener,
    planned,
    written,
)

_AUTHORITY = trustme.CA()
_LEAF, _OTHER = _AUTHORITY.issue_cert("a.com"), _AUTHORITY.issue_cert("b.com")
CHAIN = b"".join(blob.bytes() for blob in _LEAF.cert_chain_pems)
KEY, OTHER_KEY = _LEAF.private_key_pem.bytes(), _OTHER.private_key_pem.bytes()


def secret(
    chain: bytes = CHAIN, key: bytes = KEY, name: str = "cert", namespace: str = "ns"
) -> Object:
    data = {"tls.crt": base64.b64encode(chain).decode(), "tls.key": base64.b64encode(key).decode()}
    return {**item(name, {}, namespace), "type": "kubernetes.io/tls", "data": data}


def test_a_secret_holds_a_chain_and_its_key() -> None:
    found = certificate_in(secret())
    assert (found.chain, found.key) == (CHAIN, KEY)
    assert "PRIVATE" not in repr(found)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (secret(key=OTHER_KEY), "not that of the certificate"),
        (secret(chain=b"nothing"), "no usable PEM"),
        (secret(key=b"nothing"), "no usable PEM"),
        ({**secret(), "type": "Opaque"}, "type is Opaque"),
        ({**secret(), "data": {}}, "no tls.crt"),
        ({**secret(), "data": {"tls.crt": "?", "tls.key": "?"}}, "no base64"),
    ],
)
def test_a_secret_that_can_not_be_used_says_why(wrong: Object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        certificate_in(wrong)


@pytest.mark.parametrize(
    ("ref", "reason"),
    [
        ({"name": "cert"}, "ResolvedRefs"),
        ({"name": "gone"}, "InvalidCertificateRef"),
        ({"name": "broken"}, "InvalidCertificateRef"),
        ({"name": "cert", "kind": "ConfigMap"}, "InvalidCertificateRef"),
        ({"name": "cert", "namespace": "closed"}, "RefNotPermitted"),
        ({"name": "cert", "namespace": "open"}, "ResolvedRefs"),
    ],
)
def test_references_to_secrets(ref: Object, reason: str) -> None:
    grant = {
        "metadata": {"name": "g", "namespace": "open"},
        "spec": {
            "from": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "ns"}],
            "to": [{"group": "", "kind": "Secret"}],
        },
    }
    tls = listener(port=443, protocol="HTTPS", tls={"certificateRefs": [ref]})
    found = planned(
        gateways=keyed(gateway(tls)),
        secrets=keyed(
            secret(),
            secret(key=OTHER_KEY, name="broken"),
            secret(namespace="closed"),
            secret(namespace="open"),
        ),
        grants=keyed(grant),
    )
    [one] = written(found, "Gateway", "gw")["listeners"]
    status = "True" if reason == "ResolvedRefs" else "False"
    assert conditions(one)["ResolvedRefs"] == (status, reason)
    assert bool(found.ports) is (reason == "ResolvedRefs")
    for port in found.ports.values():
        assert [host for host, _ in port.certificates] == [None]
