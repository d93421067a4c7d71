"""Connectors that find KV by what the prompt says: both legs are plain requests.

The prefill leg leaves the prompt's blocks where the decode server looks anyway (a shared folder,
LMCache's store), under hashes of their content. Nothing is pinned and nothing has to be told.
"""

from endpoints.engines.transfer.answer import PrefillAnswer
from endpoints.engines.transfer.dialect import Dialect, Handover, Leg
from endpoints.engines.transfer.priming import one_token


class _ByContent(Dialect):
    def prefill(self, handover: Handover, api: str) -> Leg:
        """One token."""
        del handover
        return Leg(one_token(api))

    def decode(self, handover: Handover, answer: PrefillAnswer | None) -> Leg:
        """The request as it is."""
        del handover, answer
        return Leg()


class SharedStorage(_ByContent):
    """vLLM's ExampleConnector, called SharedStorageConnector before: a folder both mount."""

    name = "example"
    aliases = ("shared-storage", "ExampleConnector", "SharedStorageConnector")


class LMCache(_ByContent):
    """LMCacheConnectorV1: LMCache's own configuration says how KV travels."""

    name = "lmcache"
    aliases = ("LMCacheConnectorV1",)
