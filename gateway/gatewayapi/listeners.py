"""A Gateway's listeners: which are valid, which ones clash, what may be attached to them."""

import base64
import binascii
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from gateway.gatewayapi.conditions import Condition
from gateway.gatewayapi.references import Grants, selects
from gateway.gatewayapi.snapshot import GATEWAY_GROUP, Key, Object, Snapshot, key_of, spec_of

PROTOCOLS: Final = ("HTTP", "HTTPS")
_KIND: Final = {"group": GATEWAY_GROUP, "kind": "HTTPRoute"}


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate chain and its key, both PEM."""

    chain: bytes
    key: bytes = field(repr=False)


@dataclass(slots=True)
class Listener:
    """One listener of one Gateway; ``problems`` are the conditions that do not hold."""

    gateway: Key
    spec: Object
    address: str
    certificates: tuple[Certificate, ...] = ()
    kinds: tuple[Object, ...] = (_KIND,)
    problems: dict[str, Condition] = field(default_factory=dict)
    attached: set[str] = field(default_factory=set)
    """The routes, by name."""

    @property
    def name(self) -> str:
        """Its name in its Gateway, the ``sectionName`` of references."""
        return str(self.spec["name"])

    @property
    def port(self) -> int:
        """As clients know it."""
        return int(self.spec["port"])

    @property
    def protocol(self) -> str:
        """HTTP, HTTPS, or what we don't speak."""
        return str(self.spec["protocol"])

    @property
    def hostname(self) -> str | None:
        """Of the requests that it is for; None: any."""
        return (self.spec.get("hostname") or "").lower() or None

    @property
    def valid(self) -> bool:
        """Whether it can be served."""
        return not self.problems

    def wrong(self, type_: str, reason: str, message: str, *, holds: bool = False) -> None:
        """Note a condition that is not as it should be; the first of its type counts."""
        self.problems.setdefault(type_, Condition(type_, holds, reason, message))

    def allows(self, route_namespace: str, namespaces: "NamespaceLabels") -> bool:
        """Whether HTTPRoutes of a namespace may attach here."""
        if _KIND not in self.kinds:
            return False
        allowed = (self.spec.get("allowedRoutes") or {}).get("namespaces") or {}
        which = allowed.get("from") or "Same"
        if which == "All":
            return True
        if which == "Same":
            return route_namespace == self.gateway[0]
        if which == "Selector":
            return selects(allowed.get("selector"), namespaces.of(route_namespace))
        return False

    def conditions(self, bound: Condition | None) -> list[Condition]:
        """All of them; ``bound`` is ``Programmed`` as whoever listens has it."""
        fine = (
            Condition("Accepted", True, "Accepted", "The listener is valid."),
            Condition("ResolvedRefs", True, "ResolvedRefs", "Every reference is there."),
            Condition("Conflicted", False, "NoConflicts", "No other listener is in its way."),
        )
        found = [self.problems.get(one.type, one) for one in fine]
        if not self.valid:
            programmed = Condition("Programmed", False, "Invalid", "The listener is not valid.")
        else:
            programmed = bound or Condition("Programmed", None, "Pending", "Not listening yet.")
        return [*found, programmed]


class NamespaceLabels:
    """The labels of namespaces."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._namespaces = snapshot.namespaces

    def of(self, namespace: str) -> Object:
        """A namespace's labels; none when it is not known."""
        item = self._namespaces.get(("", namespace)) or {"metadata": {}}
        return item["metadata"].get("labels") or {}


def listeners_of(
    gateway: Object, address: str, snapshot: Snapshot, grants: Grants
) -> list[Listener]:
    """A Gateway's listeners, each looked at by itself."""
    found = []
    for spec in spec_of(gateway).get("listeners") or ():
        listener = Listener(key_of(gateway), spec, address)
        _check_protocol(listener)
        _check_kinds(listener)
        if listener.protocol == "HTTPS":
            _find_certificates(listener, snapshot, grants)
        found.append(listener)
    return found


def _check_protocol(listener: Listener) -> None:
    if listener.protocol not in PROTOCOLS:
        listener.kinds = ()
        listener.wrong(
            "Accepted", "UnsupportedProtocol", f"{listener.protocol} is not spoken here."
        )


def _check_kinds(listener: Listener) -> None:
    wanted = (listener.spec.get("allowedRoutes") or {}).get("kinds")
    if not wanted or not listener.kinds:
        return
    kinds = [{"group": one.get("group", GATEWAY_GROUP), "kind": one["kind"]} for one in wanted]
    unknown = [one["kind"] for one in kinds if one != _KIND]
    if unknown:
        listener.wrong(
            "ResolvedRefs", "InvalidRouteKinds", f"{', '.join(unknown)} can't be attached here."
        )
    listener.kinds = (_KIND,) if _KIND in kinds else ()


def _find_certificates(listener: Listener, snapshot: Snapshot, grants: Grants) -> None:
    tls = listener.spec.get("tls") or {}
    if (tls.get("mode") or "Terminate") != "Terminate":
        listener.wrong(
            "Accepted", "UnsupportedValue", "TLS is terminated here, not passed through."
        )
        return
    refs = tls.get("certificateRefs") or ()
    if not refs:
        listener.wrong("ResolvedRefs", "InvalidCertificateRef", "certificateRefs is empty.")
    listener.certificates = tuple(
        certificate
        for ref in refs
        if (certificate := _certificate(listener, ref, snapshot, grants)) is not None
    )


def _certificate(
    listener: Listener, ref: Object, snapshot: Snapshot, grants: Grants
) -> Certificate | None:
    group, kind = ref.get("group") or "", ref.get("kind") or "Secret"
    namespace, name = ref.get("namespace") or listener.gateway[0], ref["name"]
    where = f"Secret {namespace}/{name}"
    if (group, kind) != ("", "Secret"):
        listener.wrong("ResolvedRefs", "InvalidCertificateRef", f"{kind} {name} is no Secret.")
    elif not grants.allow("Gateway", listener.gateway[0], "", "Secret", namespace, name):
        listener.wrong(
            "ResolvedRefs", "RefNotPermitted", f"No ReferenceGrant in {namespace} allows {where}."
        )
    elif (secret := snapshot.secrets.get((namespace, name))) is None:
        listener.wrong("ResolvedRefs", "InvalidCertificateRef", f"There is no {where}.")
    else:
        try:
            return certificate_in(secret)
        except ValueError as error:
            listener.wrong("ResolvedRefs", "InvalidCertificateRef", f"{where}: {error}.")
    return None


def certificate_in(secret: Object) -> Certificate:
    """The certificate of a TLS Secret. ValueError says what is wrong with it."""
    data = secret.get("data") or {}
    if secret.get("type", "kubernetes.io/tls") != "kubernetes.io/tls":
        raise ValueError(f"its type is {secret['type']}, not kubernetes.io/tls")
    try:
        chain, key = (
            base64.b64decode(data[entry], validate=True) for entry in ("tls.crt", "tls.key")
        )
    except KeyError as error:
        raise ValueError(f"it has no {error.args[0]}") from error
    except binascii.Error as error:
        raise ValueError(f"its data is no base64: {error}") from error
    return _pair(chain, key)


@lru_cache(maxsize=256)  # every plan looks at every Secret
def _pair(chain: bytes, key: bytes) -> Certificate:
    try:
        [leaf, *_] = x509.load_pem_x509_certificates(chain)
        public = load_pem_private_key(key, None).public_key()
    except (ValueError, TypeError) as error:  # TypeError: the key has a passphrase
        raise ValueError("certificate or key is no usable PEM") from error
    if _bits(leaf.public_key()) != _bits(public):
        raise ValueError("the key is not that of the certificate")
    return Certificate(chain, key)


def _bits(key: object) -> bytes:
    encoded: bytes = key.public_bytes(  # type: ignore[attr-defined]  # every public key has it
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )
    return encoded


def find_conflicts(listeners: Iterable[Listener]) -> None:
    """Of listeners on one address and port, mark those that can't be there beside an older one.

    ``listeners`` come the oldest Gateway's first. All Gateways that have no address of their own
    share ours, so they are told apart by host name.
    """
    protocols: dict[tuple[str, int], str] = {}
    names: set[tuple[str, int, str | None]] = set()
    for one in listeners:
        if not one.valid:
            continue
        place = (one.address, one.port)
        if protocols.setdefault(place, one.protocol) != one.protocol:
            _conflict(one, "ProtocolConflict", f"Port {one.port} is {protocols[place]} already.")
        elif (*place, one.hostname) in names:
            host = one.hostname or "any host"
            _conflict(
                one, "HostnameConflict", f"There is a listener for {host} on port {one.port}."
            )
        else:
            names.add((*place, one.hostname))


def _conflict(listener: Listener, reason: str, message: str) -> None:
    listener.wrong("Conflicted", reason, message, holds=True)
    listener.wrong("Accepted", reason, message)


def status_of(listener: Listener, conditions: Sequence[Object]) -> Object:
    """A listener's part of its Gateway's status."""
    return {
        "name": listener.name,
        "supportedKinds": list(listener.kinds),
        "attachedRoutes": len(listener.attached),
        "conditions": list(conditions),
    }
