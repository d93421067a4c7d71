"""Embeddings, scores and rankings: prompts that are computed without generating anything.

The numbers are made up, and the same for the same text: an embedding is a unit vector drawn
from the text's hash, a score tells how many words two texts share.
"""

import base64
import math
import random
import time
from array import array
from collections.abc import Sequence
from typing import Literal

import msgspec
from aiohttp import web
from msgspec import Struct
from xxhash import xxh3_64_intdigest

from bench.fleet.engine.tokens import Tokens, encode
from bench.fleet.errors import bad_request
from bench.fleet.routes.completions import read_prompts
from bench.fleet.routes.http import (
    Json,
    admit,
    json_response,
    openai_errors,
    read_body,
    response_id,
)
from bench.fleet.service import Service


class EmbeddingBody(Struct, frozen=True, kw_only=True):
    """What is honoured of ``/v1/embeddings``."""

    input: str | list[str | int | list[int]]
    model: str | None = None
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None


class Document(Struct, frozen=True):
    """A document of a ranking as an object."""

    text: str


class RerankBody(Struct, frozen=True, kw_only=True):
    """What is honoured of ``/v1/rerank``."""

    query: str
    documents: list[str | Document]
    model: str | None = None
    top_n: int | None = None


class ScoreBody(Struct, frozen=True, kw_only=True):
    """What is honoured of ``/v1/score``: one text or as many as of the others."""

    text_1: str | list[str]
    text_2: str | list[str]
    model: str | None = None


_embedding = msgspec.json.Decoder(EmbeddingBody)
_rerank = msgspec.json.Decoder(RerankBody)
_score = msgspec.json.Decoder(ScoreBody)


class PoolingRoutes:
    """Everything that is computed in the prefill alone."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def register(self, router: web.UrlDispatcher) -> None:
        """Add the routes."""
        router.add_post("/v1/embeddings", openai_errors(self._embed))
        for prefix in ("", "/v1"):
            router.add_post(prefix + "/rerank", openai_errors(self._rank))
            router.add_post(prefix + "/score", openai_errors(self._score))

    async def _embed(self, request: web.Request) -> web.Response:
        body = await read_body(request, _embedding)
        await admit(self._service, request)
        size = body.dimensions or self._service.settings.embedding_dimensions
        if size < 1:
            raise bad_request(f"dimensions must be at least 1, got {size}.", "dimensions")
        prompts = [prompt.tokens for prompt in read_prompts(body.input, "input")]
        model, usage = await self._compute(body.model, prompts)
        data = [
            {
                "index": index,
                "object": "embedding",
                "embedding": _encoded(embedding(prompt, size), body.encoding_format),
            }
            for index, prompt in enumerate(prompts)
        ]
        head = {"id": response_id("embd", request), "object": "list", "created": int(time.time())}
        return json_response({**head, "model": model, "data": data, "usage": usage})

    async def _rank(self, request: web.Request) -> web.Response:
        body = await read_body(request, _rerank)
        await admit(self._service, request)
        if not body.documents:
            raise bad_request("documents must not be empty.", "documents")
        texts = [item if isinstance(item, str) else item.text for item in body.documents]
        model, usage = await self._compute(
            body.model, [encode(f"{body.query}\n{text}") for text in texts]
        )
        results: list[Json] = [
            {
                "index": index,
                "document": {"text": text, "multi_modal": None},
                "relevance_score": similarity(body.query, text),
            }
            for index, text in enumerate(texts)
        ]
        results.sort(key=lambda result: -result["relevance_score"])
        head = {"id": response_id("rerank", request), "model": model, "usage": usage}
        return json_response({**head, "results": results[: body.top_n]})

    async def _score(self, request: web.Request) -> web.Response:
        body = await read_body(request, _score)
        await admit(self._service, request)
        pairs = _pairs(_listed(body.text_1), _listed(body.text_2))
        model, usage = await self._compute(
            body.model, [encode(f"{first}\n{second}") for first, second in pairs]
        )
        data = [
            {"index": index, "object": "score", "score": similarity(first, second)}
            for index, (first, second) in enumerate(pairs)
        ]
        head = {"id": response_id("score", request), "object": "list", "created": int(time.time())}
        return json_response({**head, "model": model, "data": data, "usage": usage})

    async def _compute(self, name: str | None, prompts: Sequence[Tokens]) -> tuple[str, Json]:
        """Let the engine compute the prompts; the model's name, and the usage."""
        model = self._service.models.resolve(name)
        with self._service.pool(model, prompts) as pooling:
            await pooling.finished()
            tokens = pooling.usage.prompt_tokens
        return model, {"prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0}


def embedding(tokens: Tokens, size: int) -> list[float]:
    """A unit vector that depends on nothing but the tokens and the size."""
    rng = random.Random(xxh3_64_intdigest(tokens.tobytes()))
    values = [rng.gauss(0.0, 1.0) for _ in range(size)]
    norm = math.sqrt(math.fsum(value * value for value in values))
    return [value / norm for value in values]


def similarity(first: str, second: str) -> float:
    """The share of words that two texts have in common (Jaccard), 0 to 1."""
    one, other = set(first.lower().split()), set(second.lower().split())
    return len(one & other) / len(one | other) if one | other else 0.0


def _encoded(values: list[float], encoding: str) -> list[float] | str:
    if encoding == "float":
        return values
    return base64.b64encode(array("f", values).tobytes()).decode()


def _listed(texts: str | list[str]) -> list[str]:
    return [texts] if isinstance(texts, str) else texts


def _pairs(first: list[str], second: list[str]) -> list[tuple[str, str]]:
    if len(first) == 1:
        first = first * len(second)
    if not first or len(first) != len(second):
        message = "text_1 must be one text or as many as text_2 has, and neither may be empty."
        raise bad_request(message, "text_1")
    return list(zip(first, second, strict=True))
