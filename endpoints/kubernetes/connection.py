"""A connection to one API server: requests, and answers that come bit by bit.

Addresses, certificates and tokens are the official client's business; requests go through it as
raw JSON, as most kinds that matter here have no generated classes.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

import aiohttp
import msgspec

from endpoints.kubernetes.errors import UnreachableError, error_of
from endpoints.kubernetes.resources import Object
from endpoints.kubernetes.settings import ClusterSettings, NotConfiguredError, own_namespace

if TYPE_CHECKING:
    from endpoints.kubernetes.official import OfficialClient

__all__ = [
    "JSON",
    "ClusterSettings",
    "Connection",
    "NotConfiguredError",
    "open_connection",
    "own_namespace",
]

JSON: Final = "application/json"
_LOST: Final = (aiohttp.ClientError, OSError, asyncio.TimeoutError)


class Connection:
    """One API server; `open_connection` makes one, `close` ends it."""

    def __init__(self, client: "OfficialClient", settings: ClusterSettings) -> None:
        self._client = client
        self._seconds = settings.request_seconds
        self.where = settings.where
        """Which cluster, in words."""

    @property
    def host(self) -> str:
        """The API server's URL."""
        return self._client.host

    async def close(self) -> None:
        """End every request and close."""
        await self._client.close()

    async def request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: object = None,
        content_type: str = JSON,
        accept: str = JSON,
    ) -> Object:
        """The decoded answer. Raises `ApiError` for a refusal, `UnreachableError` for no answer."""
        limits = aiohttp.ClientTimeout(total=self._seconds)
        try:
            response = await self._send(method, path, query, body, content_type, accept, limits)
            content = await response.read()
        except _LOST as error:
            raise _unreachable(self.host, error) from error
        if response.status >= 400:
            raise error_of(response.status, content, response.headers.get("retry-after"))
        try:
            said: Object = msgspec.json.decode(content, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise UnreachableError(f"{self.host}{path}: the answer is no JSON object") from error
        return said

    @asynccontextmanager
    async def stream(
        self,
        path: str,
        query: Mapping[str, str],
        *,
        seconds: float,
        quiet_seconds: float,
        accept: str = JSON,
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The answer's bytes as they come, for at most ``seconds``.

        A pause of ``quiet_seconds`` ends it like its own end does. Errors as for `request`.
        """
        limits = aiohttp.ClientTimeout(
            total=seconds, sock_connect=self._seconds, sock_read=quiet_seconds
        )
        try:
            response = await self._send("GET", path, query, None, JSON, accept, limits)
        except _LOST as error:
            raise _unreachable(self.host, error) from error
        try:
            if response.status >= 400:
                content = await response.read()
                raise error_of(response.status, content, response.headers.get("retry-after"))
            yield self._chunks(response)
        except _LOST as error:
            raise _unreachable(self.host, error) from error
        finally:
            response.close()

    async def _chunks(self, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        with suppress(asyncio.TimeoutError):
            async for chunk in response.content.iter_any():
                yield chunk

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: object,
        content_type: str,
        accept: str,
        limits: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        client = self._client.api
        headers = {"Accept": accept, "Content-Type": content_type, "User-Agent": "inferway"}
        await client.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        url = f"{self.host}{path}" + (f"?{urlencode(query)}" if query else "")
        answer = await client.rest_client.request(
            method, url, headers=headers, body=body, _request_timeout=limits
        )
        response: aiohttp.ClientResponse = answer.response
        return response


async def open_connection(settings: ClusterSettings) -> Connection:
    """Set up, without talking to the API server yet.

    Raises `NotConfiguredError` when a file that it needs is missing or wrong.
    """
    from endpoints.kubernetes.official import official_client  # noqa: PLC0415 - 20 MB, see there

    return Connection(await official_client(settings), settings)


def _unreachable(host: str, error: BaseException) -> UnreachableError:
    what = str(error) or type(error).__name__
    return UnreachableError(f"{host}: {what}")
