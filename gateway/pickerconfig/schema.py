"""What an ``EndpointPickerConfig`` file may hold, as both of its API groups have it."""

from typing import Any

import msgspec

KIND = "EndpointPickerConfig"
GROUPS = ("llm-d.ai/v1alpha1", "inference.networking.x-k8s.io/v1alpha1")


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """A part of the file."""


class Plugin(_Part, frozen=True):
    """One plugin; ``name`` is what others refer to it by, by default its type."""

    type: str
    name: str | None = None
    parameters: dict[str, Any] | None = None

    @property
    def known_as(self) -> str:
        """What references call it."""
        return self.name or self.type


class Reference(_Part, frozen=True):
    """A profile's plugin; the weight counts for scorers only."""

    plugin_ref: str
    weight: float | None = None


class Profile(_Part, frozen=True):
    """One scheduling profile."""

    name: str
    plugins: tuple[Reference, ...] = ()


class Config(_Part, frozen=True):
    """The whole file. What is not about choosing an endpoint is kept as it is."""

    api_version: str
    kind: str
    metadata: dict[str, Any] | None = None
    feature_gates: tuple[str, ...] = ()
    plugins: tuple[Plugin, ...] = ()
    scheduling_profiles: tuple[Profile, ...] = ()
    saturation_detector: dict[str, Any] | None = None
    data_layer: dict[str, Any] | None = None
    data: dict[str, Any] | None = None
    parser: dict[str, Any] | None = None
    flow_control: dict[str, Any] | None = None
