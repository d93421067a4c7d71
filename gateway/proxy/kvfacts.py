"""What prefill servers tell of themselves on a page of their own, for dialects that need it.

Nobody waits for a page: a request that comes before it is known is not split, and has it asked
for. What is known is forgotten when a prefill leg fails, since a restarted engine has another id.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

from endpoints.engines.transfer import Dialect
from endpoints.engines.transfer.dialect import NoHandoverError, Place
from gateway.proxy.heads import Headers
from gateway.proxy.legrun import LegRun, RunOwner
from gateway.proxy.pool import Pools
from routing.endpoint import Endpoint

_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})
_MOST_PAGES: Final = 4_096


class KvFacts:
    """Pages by URL."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools
        self._known: dict[str, Mapping[str, str]] = {}
        self._asking: dict[str, _Asking] = {}

    def of(self, dialect: Dialect, endpoint: Endpoint) -> Mapping[str, str]:
        """What is known of a prefill endpoint.

        Raises `NoHandoverError` when the dialect needs more than is known yet; it is asked for.
        """
        url = dialect.facts_url(Place.of(endpoint))
        if url is None:
            return _NOTHING
        known = self._known.get(url)
        if known is None:
            self._ask(dialect, url)
            raise NoHandoverError("unknown_engine", f"{url} has not been read yet")
        return known

    def forget(self, dialect: Dialect, prefill: Place) -> None:
        """A prefill leg failed there: what was known may be out of date."""
        url = dialect.facts_url(prefill)
        if url is not None:
            self._known.pop(url, None)

    def learned(self, url: str, facts: Mapping[str, str] | None) -> None:
        """A page was read, or can't be."""
        self._asking.pop(url, None)
        if facts is not None:
            if len(self._known) >= _MOST_PAGES:
                self._known.clear()
            self._known[url] = facts

    def _ask(self, dialect: Dialect, url: str) -> None:
        if url in self._asking:
            return
        parts = urlsplit(url)
        authority = parts.netloc.encode()
        pool = self._pools.at(f"{parts.scheme}://{parts.netloc}")
        head = b"GET %b HTTP/1.1\r\nhost: %b\r\n\r\n" % (parts.path.encode(), authority)
        asking = _Asking(self, dialect, url)
        self._asking[url] = asking
        LegRun(pool, head, b"", asking, drain=False).start()


class _Asking(RunOwner):
    """One page on its way."""

    def __init__(self, facts: KvFacts, dialect: Dialect, url: str) -> None:
        self._facts = facts
        self._dialect = dialect
        self._url = url

    def run_sent(self) -> None:
        """It went out."""

    def run_answered(self, status: int, headers: Headers, body: bytes) -> None:
        """Read it."""
        facts: Mapping[str, str] | None = None
        if status == 200:
            try:
                facts = self._dialect.read_facts(body)
            except ValueError:
                facts = None
        self._facts.learned(self._url, facts)

    def run_lost(self, reason: str, *, refused: bool) -> None:
        """Try again with the next request."""
        self._facts.learned(self._url, None)
