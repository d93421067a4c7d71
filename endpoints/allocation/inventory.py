"""What devices the cluster has, who uses them, and which are free: kept up to date by events.

Objects come as the API server's JSON, of any served version of ``resource.k8s.io`` (v1, v1beta2,
v1beta1). What a selector or claim says is kept; raw objects are not.
"""

from collections.abc import Mapping

Raw = Mapping[str, object]


class InventoryError(ValueError):
    """An object that can't be read; the message names object, field and what is wrong."""


class Inventory:
    """The cluster's devices. Each upsert replaces what was known under that name.

    ``upsert_* `` raise InventoryError for an object that can't be read, and leave what was known.
    ``remove_*`` of something unknown does nothing. Names are ``metadata.name``; of claims and
    pods ``namespace/name``.
    """

    def upsert_slice(self, slice_: Raw) -> None:
        """A ResourceSlice that came or changed."""
        raise NotImplementedError

    def remove_slice(self, name: str) -> None:
        """A ResourceSlice that is gone."""
        raise NotImplementedError

    def upsert_node(self, node: Raw) -> None:
        """A Node that came or changed: labels, taints, readiness, cordon."""
        raise NotImplementedError

    def remove_node(self, name: str) -> None:
        """A Node that is gone."""
        raise NotImplementedError

    def upsert_class(self, class_: Raw) -> None:
        """A DeviceClass that came or changed."""
        raise NotImplementedError

    def remove_class(self, name: str) -> None:
        """A DeviceClass that is gone."""
        raise NotImplementedError

    def upsert_claim(self, claim: Raw) -> None:
        """A ResourceClaim that came or changed: its status says what is in use."""
        raise NotImplementedError

    def remove_claim(self, name: str) -> None:
        """A ResourceClaim that is gone; ``namespace/name``."""
        raise NotImplementedError

    def upsert_taint_rule(self, rule: Raw) -> None:
        """A DeviceTaintRule that came or changed."""
        raise NotImplementedError

    def remove_taint_rule(self, name: str) -> None:
        """A DeviceTaintRule that is gone."""
        raise NotImplementedError
