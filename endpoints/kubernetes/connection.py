"""A connection to one API server: who it is, how we prove who we are, requests and streams.

Addresses, certificates and tokens are read by the official client (`kubernetes.aio`), which also
keeps them fresh; requests go through it as raw JSON, as most kinds that matter here have no
generated classes.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp
import msgspec
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import (
    ConfigException,
    load_incluster_config,
    load_kube_config,
    refresh_token,
)
from kubernetes.aio.config.kube_config import KubeConfigLoader

from endpoints.kubernetes.errors import KubernetesError, UnreachableError, error_of
from endpoints.kubernetes.resources import Object

JSON: Final = "application/json"
_SERVICE_ACCOUNT_NAMESPACE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_LOST: Final = (aiohttp.ClientError, OSError, asyncio.TimeoutError)
_NOT_USABLE: Final = (ConfigException, OSError, ssl.SSLError, ValueError, TypeError, KeyError)


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


class Connection:
    """One API server; `open_connection` makes one, `close` ends it."""

    def __init__(self, client: ApiClient, settings: ClusterSettings) -> None:
        self._client = client
        self._seconds = settings.request_seconds
        self._refreshing: asyncio.Task[None] | None = None
        self.where = settings.where
        """Which cluster, in words."""

    @property
    def host(self) -> str:
        """The API server's URL."""
        return str(self._client.configuration.host).rstrip("/")

    def keep_token_fresh(self, loader: KubeConfigLoader) -> None:
        """Renew what a kubeconfig's credential plugin gave, while the connection is open."""
        work = refresh_token(loader, self._client.configuration)
        self._refreshing = asyncio.get_running_loop().create_task(work)

    async def close(self) -> None:
        """End every request and close."""
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.gather(self._refreshing, return_exceptions=True)
        await self._client.close()

    async def request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: object = None,
        content_type: str = JSON,
    ) -> Object:
        """The decoded answer. Raises `ApiError` for a refusal, `UnreachableError` for no answer."""
        limits = aiohttp.ClientTimeout(total=self._seconds)
        try:
            response = await self._send(method, path, query, body, content_type, limits)
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
        self, path: str, query: Mapping[str, str], *, seconds: float, quiet_seconds: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The answer's bytes as they come, for at most ``seconds``.

        A pause of ``quiet_seconds`` ends it like its own end does. Errors as for `request`.
        """
        limits = aiohttp.ClientTimeout(
            total=seconds, sock_connect=self._seconds, sock_read=quiet_seconds
        )
        try:
            response = await self._send("GET", path, query, None, JSON, limits)
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
        limits: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        client = self._client
        headers = {"Accept": JSON, "Content-Type": content_type, "User-Agent": "inferway"}
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
    configuration = Configuration(host=settings.url)
    loader = None
    try:
        if settings.url is not None:
            _use_url(configuration, settings)
        elif settings.kubeconfig is not None:
            loader = await _use_kubeconfig(configuration, settings.kubeconfig, settings.context)
        else:
            load_incluster_config(client_configuration=configuration)
        connection = Connection(ApiClient(configuration), settings)
    except _NOT_USABLE as error:
        raise NotConfiguredError(f"{settings.where}: {error}") from error
    if loader is not None:
        connection.keep_token_fresh(loader)
    return connection


def own_namespace(default: str = "default") -> str:
    """The namespace of the pod that we run in; ``default`` outside of a cluster."""
    try:
        return _SERVICE_ACCOUNT_NAMESPACE.read_text().strip() or default
    except OSError:
        return default


def _use_url(configuration: Configuration, settings: ClusterSettings) -> None:
    configuration.ssl_ca_cert = settings.ca_file
    if settings.token_file is None:
        return
    file = Path(settings.token_file)

    def read(configuration: Configuration) -> None:
        configuration.api_key["BearerToken"] = f"Bearer {file.read_text().strip()}"

    read(configuration)
    configuration.refresh_api_key_hook = read  # type: ignore[assignment]


async def _use_kubeconfig(
    configuration: Configuration, file: str, context: str | None
) -> KubeConfigLoader:
    if not await asyncio.to_thread(_is_file, file):
        raise ValueError("there is no such file")
    loader: KubeConfigLoader = await load_kube_config(
        config_file=file, context=context, client_configuration=configuration, persist_config=False
    )
    return loader


def _is_file(path: str) -> bool:
    return Path(path).expanduser().is_file()


def _unreachable(host: str, error: BaseException) -> UnreachableError:
    what = str(error) or type(error).__name__
    return UnreachableError(f"{host}: {what}")
