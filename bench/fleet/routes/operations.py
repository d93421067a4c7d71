"""What operators and probes ask: health, models, metrics, adapters, cache, behaviour."""

from collections.abc import Mapping
from typing import Any

import msgspec
from aiohttp import web
from msgspec import Struct
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from bench.fleet.errors import bad_request
from bench.fleet.routes.http import json_response, openai_errors, read_body
from bench.fleet.service import Service
from bench.fleet.settings import Behaviour

_VERSION = "0.1.0+sim"


class LoadAdapterBody(Struct, frozen=True):
    """``/v1/load_lora_adapter``."""

    lora_name: str = ""
    lora_path: str = ""


class UnloadAdapterBody(Struct, frozen=True):
    """``/v1/unload_lora_adapter``."""

    lora_name: str


_load = msgspec.json.Decoder(LoadAdapterBody)
_unload = msgspec.json.Decoder(UnloadAdapterBody)
_change = msgspec.json.Decoder(dict[str, Any])


class OperationRoutes:
    """Everything that is no inference."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def register(self, router: web.UrlDispatcher) -> None:
        """Add the routes."""
        for path in ("/health", "/ping"):
            router.add_get(path, self._health)
        router.add_post("/ping", self._health)
        router.add_get("/version", self._version)
        router.add_get("/load", self._load)
        router.add_get("/metrics", self._metrics)
        router.add_get("/v1/models", self._models)
        router.add_post("/v1/load_lora_adapter", openai_errors(self._load_adapter))
        router.add_post("/v1/unload_lora_adapter", openai_errors(self._unload_adapter))
        router.add_post("/reset_prefix_cache", self._reset_prefix_cache)
        if self._service.publisher is not None:
            router.add_get("/kv_event_sources", self._event_sources)
        if self._service.kv is not None:
            router.add_get("/query", self._query)
        router.add_get("/admin/config", self._config)
        router.add_post("/admin/config", openai_errors(self._configure))

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response(status=200 if self._service.ready else 503)

    async def _version(self, _: web.Request) -> web.Response:
        return json_response({"version": _VERSION})

    async def _load(self, _: web.Request) -> web.Response:
        return json_response({"server_load": self._service.load})

    async def _metrics(self, _: web.Request) -> web.Response:
        text = generate_latest(self._service.registry)
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _models(self, _: web.Request) -> web.Response:
        return json_response(self._service.models.listing())

    async def _load_adapter(self, request: web.Request) -> web.Response:
        body = await read_body(request, _load)
        self._service.models.load(body.lora_name, body.lora_path)
        return web.Response(text=f"Success: LoRA adapter '{body.lora_name}' added successfully.")

    async def _unload_adapter(self, request: web.Request) -> web.Response:
        body = await read_body(request, _unload)
        self._service.models.unload(body.lora_name)
        return web.Response(text=f"Success: LoRA adapter '{body.lora_name}' removed successfully.")

    async def _reset_prefix_cache(self, _: web.Request) -> web.Response:
        return json_response({"success": self._service.reset_prefix_cache()})

    async def _event_sources(self, _: web.Request) -> web.Response:
        """By data-parallel rank, as vLLM answers in its development mode."""
        assert self._service.publisher is not None
        return json_response({"0": self._service.publisher.source})

    async def _query(self, _: web.Request) -> web.Response:
        """As Mooncake's bootstrap server, by data-parallel rank."""
        assert self._service.kv is not None
        return json_response({"0": {"engine_id": self._service.kv.engine_id}})

    async def _config(self, _: web.Request) -> web.Response:
        return json_response(self._service.behaviour)

    async def _configure(self, request: web.Request) -> web.Response:
        changes = await read_body(request, _change)
        self._service.change(changed(self._service.behaviour, changes))
        return json_response(self._service.behaviour)


def changed(behaviour: Behaviour, changes: Mapping[str, Any]) -> Behaviour:
    """The behaviour with some fields changed; those of nested objects may be given in part.

    Raises `RequestError` (400) for an unknown field or a wrong value; nothing is changed then.
    """
    fields = msgspec.to_builtins(behaviour)
    for name, value in changes.items():
        old = fields.get(name)
        fields[name] = {**old, **value} if _both_objects(old, value) else value
    try:
        return msgspec.convert(fields, Behaviour)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$.")
        raise bad_request(message, path.rstrip("`") or None) from None


def _both_objects(old: object, new: object) -> bool:
    return isinstance(old, dict) and isinstance(new, dict)
