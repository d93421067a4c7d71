"""Which cluster, and which namespace we run in."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from endpoints.kubernetes.errors import KubernetesError

_SERVICE_ACCOUNT_NAMESPACE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class NotConfiguredError(KubernetesError):
    """The connection can't be set up: a file is missing or wrong; the message names it."""


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """Which cluster: a plain ``url``, else a ``kubeconfig`` file, else the one we run in.

    ``context`` chooses one of the file's. ``token_file`` and ``ca_file`` go with ``url``.
    ``request_seconds`` bounds every request but watches.
    """

    url: str | None = None
    kubeconfig: str | None = None
    context: str | None = None
    token_file: str | None = None
    ca_file: str | None = None
    request_seconds: float = 15.0

    @property
    def where(self) -> str:
        """In words, for messages."""
        if self.url is not None:
            return self.url
        return "this cluster" if self.kubeconfig is None else self.kubeconfig


def own_namespace(default: str = "default") -> str:
    """The namespace of the pod that we run in; ``default`` outside of a cluster."""
    try:
        return _SERVICE_ACCOUNT_NAMESPACE.read_text().strip() or default
    except OSError:
        return default
