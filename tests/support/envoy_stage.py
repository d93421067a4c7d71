"""Everything that a request passes through with Envoy: client, Envoy, picker, endpoints."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.support.envoy import OVERRIDE_HOST, Config, Envoy, filter_of, running_envoy
from tests.support.gateways import chat, until
from tests.support.processors import ProcessorUnderTest, running_processor
from tests.support.upstreams import Upstream

PATH = "/v1/chat/completions"
MODES: dict[str, dict[str, Any]] = {
    "recommended": {},
    "full duplex": {
        "request_body_mode": "FULL_DUPLEX_STREAMED",
        "request_trailer_mode": "SEND",
    },
    "protocol": {
        "request_body_mode": "FULL_DUPLEX_STREAMED",
        "request_trailer_mode": "SEND",
        "response_body_mode": "FULL_DUPLEX_STREAMED",
    },
    "streamed ahead": {"request_body_mode": "STREAMED", "response_body_mode": "STREAMED"},
    "streamed": {"response_body_mode": "STREAMED"},
    "buffered": {"response_body_mode": "BUFFERED"},
    "partial": {"request_body_mode": "BUFFERED_PARTIAL"},
    "heads only": {"request_body_mode": "NONE"},
}


def in_mode(name: str, *, override: bool = False) -> Callable[[Config], object]:
    """What makes a configuration of deploy/ one of another body mode."""

    def change(config: Config) -> None:
        found = filter_of(config)
        found["processing_mode"].update(MODES[name])
        found["allow_mode_override"] = override
        if name == "streamed ahead":
            found["send_body_without_waiting_for_header_response"] = True

    return change


class Stage:
    """Envoy, picker and endpoints of one test, and a client."""

    def __init__(
        self, envoy: Envoy, picker: ProcessorUnderTest, client: aiohttp.ClientSession
    ) -> None:
        self.envoy = envoy
        self.picker = picker
        self.client = client

    def url(self, path: str = PATH) -> str:
        """Where clients ask."""
        return f"http://127.0.0.1:{self.envoy.port}{path}"

    async def ask(self, body: bytes | None = None, **fields: str) -> tuple[int, bytes]:
        """One request; its status and body."""
        headers = {name.replace("_", "-"): value for name, value in fields.items()}
        headers["content-type"] = "application/json"
        data = chat() if body is None else body
        async with self.client.post(self.url(), data=data, headers=headers) as response:
            return response.status, await response.read()


@asynccontextmanager
async def staged(
    directory: Path,
    upstreams: list[Upstream],
    *,
    file: Path = OVERRIDE_HOST,
    change: Callable[[Config], object] | None = None,
    **options: Any,
) -> AsyncIterator[Stage]:
    """Everything running, and Envoy knowing that the picker is well."""
    urls = [upstream.url for upstream in upstreams]
    async with running_processor(urls, **options) as picker:
        async with running_envoy(
            file,
            directory,
            picker=picker.port,
            pool=[upstream.port for upstream in upstreams],
            change=change,
        ) as envoy:
            async with aiohttp.ClientSession() as client:
                yield Stage(envoy, picker, client)
            await until(lambda: picker.in_flight == 0)
            await until(lambda: picker.context.telemetry.in_flight == 0)
