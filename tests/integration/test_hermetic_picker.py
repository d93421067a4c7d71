"""The hermetic scenarios of llm-d's endpoint picker, over a real gRPC stream, without Envoy.

Named after those of its test/integration/epp. Pod i is at 192.168.1.(i+1):8000; the picker has
their configuration: queue, kv-cache-utilization, prefix-cache and lora-affinity scorers, each of
weight 1, and the highest score wins. Where the reference deviates from the protocol, the protocol
is followed (docs/extproc.md has the table).

Each runs standalone, with endpoints and rules from settings, and with a pool that has the objects
of a cluster: an objective of priority 2 and, where a scenario says so, a rewrite.
"""

import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal

import grpc
import pytest
from envoy.extensions.filters.http.ext_proc.v3.processing_mode_pb2 import ProcessingMode
from envoy.service.ext_proc.v3.external_processor_pb2 import ProcessingRequest, ProcessingResponse

from endpoints.discovery.kubernetes.rules import rules_of
from endpoints.kubernetes.resources import Object
from gateway.brains import Brains
from gateway.extproc.pools import PickerPools
from gateway.extproc.processor import SERVICE
from gateway.pickerconfig import read
from routing.fleet import Load
from tests.support.processing import CHAT, Reply
from tests.support.processors import ProcessorUnderTest, running_processor

CONFIG = b"""
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: queue-scorer
- type: kv-cache-utilization-scorer
- type: prefix-cache-scorer
- type: lora-affinity-scorer
- type: max-score-picker
"""
MODELS = ("my-model", "sql-lora", "direct-model")
OBJECTIVE = "x-gateway-inference-objective"
Pod = tuple[int, float, frozenset[str]]
Mode = Literal["standalone", "CRDs"]


@pytest.fixture(params=["standalone", "CRDs"], autouse=True)
def mode(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Mode:
    """Where objectives and rewrites come from."""
    found: Mode = request.param
    monkeypatch.setattr(sys.modules[__name__], "_mode", found)
    return found


_mode: Mode = "standalone"


def objective(name: str, priority: int) -> Object:
    return _item(name, {"priority": priority})


def rewrite(model: str, target: str) -> Object:
    rule = {"matches": [{"model": {"value": model}}], "targets": [{"modelRewrite": target}]}
    return _item("rewrite", {"rules": [rule]})


def _item(name: str, spec: Object) -> Object:
    metadata = {"name": name, "namespace": "ns", "creationTimestamp": "2026-01-01T00:00:00Z"}
    return {"metadata": metadata, "spec": {"poolRef": {"name": "pool"}, **spec}}


def pod(queue: int, kv: float, *models: str) -> Pod:
    return queue, kv, frozenset(models)


def address(number: int) -> str:
    return f"192.168.1.{number + 1}:8000"


class Stream:
    """One ext-proc stream, in the modes that the protocol asks for."""

    def __init__(self, call: Any, picker: ProcessorUnderTest) -> None:
        self.call = call
        self.picker = picker

    async def say(self, request: ProcessingRequest, replies: int) -> list[Reply]:
        await self.call.write(request)
        return [Reply(await self.call.read()) for _ in range(replies)]

    async def head(
        self,
        fields: dict[str, str] | None = None,
        *,
        ends: bool = False,
        subset: Sequence[str] | None = None,
        replies: int = 0,
    ) -> list[Reply]:
        said = ProcessingRequest()
        full_duplex = ProcessingMode.FULL_DUPLEX_STREAMED
        said.protocol_config.request_body_mode = full_duplex
        said.protocol_config.response_body_mode = full_duplex
        for name, value in {**CHAT, ":path": "/v1/completions", **(fields or {})}.items():
            said.request_headers.headers.headers.add(key=name, raw_value=value.encode())
        said.request_headers.end_of_stream = ends
        if subset is not None:
            space = said.metadata_context.filter_metadata["envoy.lb.subset_hint"]
            hint = space.fields["x-gateway-destination-endpoint-subset"].list_value
            hint.SetInParent()
            for entry in subset:
                hint.values.add(string_value=entry)
        return await self.say(said, replies)

    async def body(self, body: bytes, *, ends: bool = True, replies: int = 2) -> list[Reply]:
        said = ProcessingRequest()
        said.request_body.body, said.request_body.end_of_stream = body, ends
        return await self.say(said, replies)

    async def response(self, content_type: str) -> Reply:
        said = ProcessingRequest()
        for name, value in ((":status", "200"), ("content-type", content_type)):
            said.response_headers.headers.headers.add(key=name, raw_value=value.encode())
        [reply] = await self.say(said, 1)
        return reply

    async def response_body(self, body: bytes, *, ends: bool = False) -> Reply:
        said = ProcessingRequest()
        said.response_body.body, said.response_body.end_of_stream = body, ends
        [reply] = await self.say(said, 1)
        return reply

    async def picked(self, model: str = "my-model", **options: Any) -> str | None:
        """Which pod gets a completion for the model."""
        await self.head(**options)
        head, _ = await self.body(prompt(model))
        return head.destination


def prompt(model: str) -> bytes:
    return json.dumps({"model": model, "prompt": "test1", "max_tokens": 100}).encode()


@asynccontextmanager
async def streaming(
    *pods: Pod, rewrites: dict[str, str] | None = None, **options: Any
) -> AsyncIterator[Stream]:
    """A picker over these pods, and one stream to it."""
    urls = [f"http://{address(number)}" for number in range(len(pods))]
    rewrites = rewrites or {}
    if _mode == "standalone":
        options["rewrites"] = {model: {target: 1} for model, target in rewrites.items()}
    async with running_processor(urls, models=MODELS, fallbacks=0, **options) as picker:
        picker.router.policy = read(CONFIG, "hermetic").make_policy()
        if _mode == "CRDs":
            brains = Brains({"ns/pool": picker.router})
            objects = [rewrite(model, target) for model, target in rewrites.items()]
            brains.set_rules("ns/pool", rules_of("ns", "pool", [objective("critical", 2)], objects))
            picker.context.pools = PickerPools(brains)
        for number, (queue, kv, models) in enumerate(pods):
            load = Load(
                0.0, waiting=queue, kv_usage=kv, adapters_running=models, max_adapters=len(models)
            )
            picker.router.fleet.observe_load(address(number), load)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{picker.port}") as channel:
            call = channel.stream_stream(
                f"/{SERVICE}/Process",
                request_serializer=ProcessingRequest.SerializeToString,
                response_deserializer=ProcessingResponse.FromString,
            )()
            yield Stream(call, picker)
            call.cancel()


async def test_select_lower_queue_and_kv_cache(mode: Mode) -> None:
    async with streaming(pod(3, 0.2), pod(0, 0.1), pod(10, 0.2)) as stream:
        assert await stream.picked(fields={OBJECTIVE: "critical"}) == address(1)
        [flow] = stream.picker.context.books.flows
        assert flow.priority == (2 if mode == "CRDs" else 0)
        assert len(stream.picker.router.fleet.serving("my-model")) == 3


async def test_select_active_lora_low_queue() -> None:
    async with streaming(
        pod(0, 0.2, "foo", "bar"), pod(0, 0.1, "foo", "sql-lora"), pod(10, 0.2, "foo", "bar")
    ) as stream:
        assert await stream.picked("sql-lora") == address(1)


async def test_select_lora_despite_higher_kv_cache() -> None:
    async with streaming(
        pod(10, 0.2, "foo", "bar"), pod(10, 0.4, "foo", "sql-lora"), pod(10, 0.3, "foo")
    ) as stream:
        assert await stream.picked("sql-lora") == address(1)


async def test_do_not_shed_requests_by_default() -> None:
    async with streaming(
        pod(6, 0.2, "foo", "bar", "sql-lora"), pod(0, 0.85, "foo"), pod(10, 0.9, "foo")
    ) as stream:
        assert await stream.picked("sql-lora") == address(0)


async def test_invalid_json() -> None:
    async with streaming(pod(0, 0.2)) as stream:
        await stream.head()
        [reply] = await stream.body(b"no healthy upstream", replies=1)
        assert reply.answer[0] == 400


async def test_missing_model_field() -> None:
    async with streaming(pod(0, 0.2)) as stream:
        await stream.head()
        [reply] = await stream.body(b'{"prompt":"test1"}', replies=1)
        assert reply.answer[0] == 400
        assert b"model" in reply.answer[2]


async def test_split_body_across_chunks() -> None:
    async with streaming(pod(4, 0.2), pod(4, 0.1)) as stream:
        await stream.head({"x-gateway-model-name-rewrite": "sql-lora"})
        whole = prompt("my-model")
        await stream.body(whole[:30], ends=False, replies=0)
        head, body = await stream.body(whole[30:])
        assert head.destination == address(1)
        assert json.loads(body.chunk) == {**json.loads(whole), "model": "sql-lora"}


async def test_no_backend_pods_available() -> None:
    async with streaming() as stream:
        [reply] = await stream.head({":method": "GET"}, ends=True, replies=1)
        assert reply.answer[0] == 503  # the reference says 500, the protocol 503


async def test_subsetting_best_from_three() -> None:
    pods = (pod(0, 0.2), pod(3, 0.1), pod(10, 0.2), pod(0, 0.1))
    async with streaming(*pods) as stream:
        hint = [address(1), address(2), address(0)]
        assert await stream.picked(subset=hint) == address(0)


async def test_subsetting_single_entry() -> None:
    async with streaming(pod(0, 0.2), pod(0, 0.1), pod(10, 0.2)) as stream:
        assert await stream.picked(subset=[address(2)]) == address(2)


async def test_subsetting_no_match() -> None:
    async with streaming(pod(0, 0.2), pod(0, 0.1)) as stream:
        await stream.head(subset=["192.168.9.9:8000"])
        [reply] = await stream.body(prompt("my-model"), replies=1)
        assert reply.answer[0] == 503


async def test_model_not_in_objectives() -> None:
    async with streaming(pod(3, 0.2), pod(0, 0.1)) as stream:
        assert await stream.picked("direct-model", fields={OBJECTIVE: "unknown"}) == address(1)
        [flow] = stream.picker.context.books.flows
        assert flow.priority == 0  # as for any objective that nobody defined


async def test_rewrite_request_model() -> None:
    async with streaming(pod(0, 0.2), rewrites={"my-model": "sql-lora"}) as stream:
        await stream.head()
        _, body = await stream.body(prompt("my-model"))
        assert json.loads(body.chunk)["model"] == "sql-lora"
        [flow] = stream.picker.context.books.flows
        assert (flow.model, flow.target) == ("my-model", "sql-lora")


async def test_simple_get_request() -> None:
    async with streaming(pod(0, 0.2), pod(0, 0.2)) as stream:
        [head] = await stream.head({":method": "GET", ":path": "/v1/x"}, ends=True, replies=1)
        assert head.destination in {address(0), address(1)}


async def test_passthrough_parser() -> None:
    async with streaming(pod(0, 0.2)) as stream:
        await stream.head({":path": "/v1/anything", "content-type": "text/plain"})
        head, body = await stream.body(b"raw \x00 body")
        assert (head.destination, body.chunk) == (address(0), b"raw \x00 body")


async def test_response_json_multi_chunk() -> None:
    async with streaming(pod(0, 0.2)) as stream:
        assert await stream.picked() == address(0)
        await stream.response("application/json")
        whole = b'{"choices":[],"usage":{"prompt_tokens":11,"completion_tokens":100}}'
        pieces = [await stream.response_body(piece) for piece in (whole[:20], whole[20:])]
        last = await stream.response_body(b"", ends=True)
        assert b"".join(piece.chunk for piece in pieces) == whole  # at once, not held to the end
        assert (last.chunk, last.ends) == (b"", True)
        assert stream.picker.records[0].prompt_tokens == 11


async def test_response_empty_eos_chunk() -> None:
    async with streaming(pod(0, 0.2)) as stream:
        await stream.picked()
        await stream.response("application/json")
        reply = await stream.response_body(b"", ends=True)
        assert (reply.chunk, reply.ends) == (b"", True)


async def test_response_invalid_json() -> None:
    async with streaming(pod(0, 0.2)) as stream:
        await stream.picked()
        await stream.response("application/json")
        reply = await stream.response_body(b"no healthy upstream", ends=True)
        assert (reply.chunk, reply.ends) == (b"no healthy upstream", True)


async def test_response_sse() -> None:
    async with streaming(pod(0, 0.2)) as stream:
        await stream.picked()
        await stream.response("text/event-stream")
        events = (
            b'data: {"choices":[{"text":"a"}]}\n\n',
            b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":10}}\n\n',
            b"data: [DONE]\n\n",
        )
        for event in events:
            reply = await stream.response_body(event)
            assert (reply.chunk, reply.ends) == (event, False)
        assert (await stream.response_body(b"", ends=True)).ends
        [books] = stream.picker.context.books.flows.values()
        assert (books.input_tokens.sum, books.output_tokens.sum) == (7, 10)
