"""References between namespaces, and label selectors."""

from collections.abc import Iterable

from gateway.gatewayapi.snapshot import GATEWAY_GROUP, Object, Objects, key_of, spec_of


class Grants:
    """What ReferenceGrants allow: each stands in the namespace of what is referred to."""

    def __init__(self, grants: Objects) -> None:
        self._by_namespace: dict[str, list[Object]] = {}
        for grant in grants.values():
            self._by_namespace.setdefault(key_of(grant)[0], []).append(spec_of(grant))

    def allow(
        self, from_kind: str, from_namespace: str, group: str, kind: str, namespace: str, name: str
    ) -> bool:
        """Whether a Gateway API object may refer to an object; its own namespace it always may."""
        if namespace == from_namespace:
            return True
        return any(
            _has(
                spec.get("from"),
                group=GATEWAY_GROUP,
                kind=from_kind,
                namespace=from_namespace,
            )
            and any(
                to.get("group", "") == group
                and to.get("kind") == kind
                and to.get("name") in {None, "", name}
                for to in spec.get("to") or ()
            )
            for spec in self._by_namespace.get(namespace, ())
        )


def _has(entries: Iterable[Object] | None, **wanted: str) -> bool:
    return any(
        all(entry.get(key, "") == value for key, value in wanted.items()) for entry in entries or ()
    )


def selects(selector: Object | None, labels: Object | None) -> bool:
    """Whether a label selector has these labels; one that says nothing has all."""
    selector, labels = selector or {}, labels or {}
    for key, value in (selector.get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    return all(_expression(one, labels) for one in selector.get("matchExpressions") or ())


def _expression(expression: Object, labels: Object) -> bool:
    key, operator = str(expression.get("key")), expression.get("operator")
    values = expression.get("values") or ()
    if operator == "In":
        return labels.get(key) in values
    if operator == "NotIn":
        return labels.get(key) not in values
    if operator == "Exists":
        return key in labels
    return operator == "DoesNotExist" and key not in labels
