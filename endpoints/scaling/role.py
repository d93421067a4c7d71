"""What an endpoint does of a request: the prompt, the answer, or both."""

from enum import Enum
from typing import Final

from routing.endpoint import Endpoint

ROLE_LABEL: Final = "role"
"""The endpoint's label that names its role; without it an endpoint does both."""


class Role(Enum):
    """One scale target of a pool."""

    PREFILL = "prefill"
    DECODE = "decode"
    BOTH = "both"


def role_of(endpoint: Endpoint) -> Role:
    """The endpoint's role by its label; a label that names none counts as both."""
    named = dict(endpoint.labels).get(ROLE_LABEL, Role.BOTH.value)
    try:
        return Role(named)
    except ValueError:
        return Role.BOTH
