"""What part of a request an endpoint is there for: its role, from its labels.

An endpoint without a role label takes whole requests, and a decode leg where nobody else can;
nothing says that it can hand its KV cache over, so it never gets a prefill leg. That is llm-d's
reading too (`docs/architecture.md` of llm-d-inference-scheduler: the decode filter keeps unlabelled
pods, the prefill filter drops them).
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

PREFILL: Final = "prefill"
"""Computes prompts for others: never a whole request, never a decode leg."""
DECODE: Final = "decode"
"""Takes whole requests and decode legs, no prefill leg."""
BOTH: Final = "both"
"""Whatever comes."""
ENCODE: Final = "encode"
"""Turns images and sound into embeddings: no part of a text request."""

ROLE_LABELS: Final = ("inferway.dev/role", "llm-d.ai/role", "role")
"""Labels that tell a role, the first that an endpoint has with a known value."""

CONNECTOR_LABELS: Final = ("inferway.dev/kv-connector", "kv-connector")
"""Labels that tell by which protocol an endpoint hands KV caches over."""

SPELLINGS: Mapping[str, str] = MappingProxyType(
    {
        "prefill": PREFILL,
        "decode": DECODE,
        "both": BOTH,
        "encode": ENCODE,
        # llm-d's combinations; encoding is not ours to choose by yet.
        "encode-prefill": PREFILL,
        "encode-decode": DECODE,
        "prefill-decode": BOTH,
        "encode-prefill-decode": BOTH,
    }
)
"""How roles are written -> the role."""


def told_role(labels: Iterable[tuple[str, str]]) -> str | None:
    """The role that labels tell; None when they tell none that is known."""
    given = dict(labels)
    if not given:
        return None
    for label in ROLE_LABELS:
        role = SPELLINGS.get(given.get(label, "").strip().lower())
        if role is not None:
            return role
    return None


def unknown_role(labels: Iterable[tuple[str, str]]) -> tuple[str, str] | None:
    """The first role label with a value that is no role, and that value; None without one."""
    given = dict(labels)
    for label in ROLE_LABELS:
        value = given.get(label)
        if value is not None and value.strip().lower() not in SPELLINGS:
            return label, value
    return None
