"""What the official client (`kubernetes.aio`) does for us: reading who and where, keeping it fresh.

In a module of its own, since it brings some 20 MB and hundreds of modules with it: only who
connects to a cluster pays for that.
"""

import asyncio
import ssl
from pathlib import Path
from typing import Final

import yaml
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import (
    ConfigException,
    load_incluster_config,
    load_kube_config,
    refresh_token,
)
from kubernetes.aio.config.kube_config import KubeConfigLoader

from endpoints.kubernetes.settings import ClusterSettings, NotConfiguredError

_NOT_USABLE: Final = (
    ConfigException,
    OSError,
    ssl.SSLError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    yaml.YAMLError,
)
"""What it raises for files that are wrong in one way or another."""


class OfficialClient:
    """The client of one API server, and the task that renews what a credential plugin gave."""

    def __init__(self, client: ApiClient, loader: KubeConfigLoader | None) -> None:
        self.api = client
        self._refreshing: asyncio.Task[None] | None = None
        if loader is not None:
            work = refresh_token(loader, client.configuration)
            self._refreshing = asyncio.get_running_loop().create_task(work)

    @property
    def host(self) -> str:
        """The API server's URL."""
        return str(self.api.configuration.host).rstrip("/")

    async def close(self) -> None:
        """End everything."""
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.gather(self._refreshing, return_exceptions=True)
        await self.api.close()


async def official_client(settings: ClusterSettings) -> OfficialClient:
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
        return OfficialClient(ApiClient(configuration), loader)
    except _NOT_USABLE as error:
        raise NotConfiguredError(f"{settings.where}: {error}") from error


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
