"""The Gateway conformance suite of the inference extension, each check under its own name.

What they set up is what its ``conformance/resources/base.yaml`` has: two Gateways in one namespace,
pools with their pods in another, and before each pool a picker that behaves as its lwepp does.
docs/conformance.md says which pass.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from math import sqrt
from typing import Any

import pytest

from endpoints.kubernetes.resources import (
    ENDPOINT_SLICES,
    INFERENCE_POOLS,
    NAMESPACES,
    Object,
)
from gateway.gatewayapi.controller import GATEWAYS, HTTP_ROUTES
from tests.support.clusters import Cluster, eventually
from tests.support.echo import EchoPod, echo_pods, said
from tests.support.gatewaystage import (
    Stage,
    gateway_stage,
    listener,
    path_rule,
    pool_ref,
)
from tests.support.h2servers import Request, h2_server
from tests.support.lwepp import SELECTION, SERVED_HEADER, Picker, running_picker

PRIMARY, SECONDARY = "conformance-primary", "conformance-secondary"
PROMPT = json.dumps({"model": "conformance-fake-model", "prompt": "Write as if you were a critic"})
_NO_LOOPBACK = "a picker's address comes from an EndpointSlice, which must not be a loopback one"


class Suite:
    """The base resources, and shorthand."""

    def __init__(self, stage: Stage, infra: str) -> None:
        self.stage = stage
        self.infra = infra

    def parent(self, gateway: str = PRIMARY) -> Object:
        return {"name": gateway, "namespace": self.infra}

    async def route(
        self, name: str, *rules: Object, gateway: str = PRIMARY, host: str | None = None
    ) -> None:
        await self.stage.route(
            name,
            rules,
            parents=[self.parent(gateway)],
            hostnames=[host] if host is not None else [],
        )

    async def post(
        self,
        path: str = "/",
        *,
        host: str = "primary.example.com",
        selection: Sequence[str] | None = None,
    ) -> bytes:
        """One inference request; ``selection`` is what the picker is told to pick from."""
        fields = {} if selection is None else {SELECTION: ",".join(selection)}
        return await self.stage.ask(path, host=host, body=PROMPT.encode(), fields=fields)

    async def until_status(self, status: int, path: str = "/", **options: Any) -> bytes:
        """Converging may take a moment, as the suite allows."""
        seen = b""

        async def fits() -> bool:
            nonlocal seen
            if not self.stage.listens():
                return False
            seen = await self.post(path, **options)
            return seen.startswith(b"HTTP/1.1 %d" % status)

        try:
            await eventually(fits)
        except TimeoutError:
            raise AssertionError(f"{path} stays {seen[:300]!r}") from None
        return seen


@dataclass
class Model:
    """A model server's deployment with its pool and its picker."""

    name: str
    pods: list[EchoPod]
    ports: list[int]
    picker: Picker

    @property
    def names(self) -> set[str]:
        return {pod.name for pod in self.pods}

    def at(self, pod: int, port: int = 0) -> str:
        return self.pods[pod].address(self.ports[port])


@pytest.fixture
async def suite(cluster: Cluster) -> AsyncIterator[Suite]:
    infra = f"{cluster.namespace}-infra"
    await cluster.objects.create(NAMESPACES, {"metadata": {"name": infra}})
    try:
        async with gateway_stage(cluster, all_namespaces=True) as stage:
            everybody = {"namespaces": {"from": "All"}}
            hosts: dict[str, Object] = {
                PRIMARY: {},
                SECONDARY: {"hostname": "secondary.example.com"},
            }
            for name, more in hosts.items():
                spec = {
                    "gatewayClassName": stage.gateway_class,
                    "listeners": [listener(allowedRoutes=everybody, **more)],
                }
                item = {"metadata": {"name": name}, "spec": spec}
                await cluster.objects.create(GATEWAYS, item, infra)
            yield Suite(stage, infra)
    finally:
        if cluster.real:
            await cluster.objects.delete(NAMESPACES, infra, propagation="Background")


@asynccontextmanager
async def model(
    suite: Suite,
    name: str,
    network: int,
    *,
    ports: int = 1,
    mode: str = "FailClose",
    **spec: Any,
) -> AsyncIterator[Model]:
    """Three pods at 127.0.``network``.x, their pool, and its picker behind a Service."""
    suite.stage.cluster.stand_in_only(_NO_LOOPBACK)
    names = [f"{name}-{number}" for number in range(3)]
    ips = [f"127.0.{network}.{number + 1}" for number in range(3)]
    async with echo_pods(names, ips, ports=ports) as (pods, found):
        addresses = [pod.address(port) for pod in pods for port in found]
        async with running_picker(addresses) as picker:
            for pod in pods:
                await suite.stage.cluster.pod(pod.name, pod.ip, labels={"app": name})
            await suite.stage.service(f"{name}-epp", 9002, ["127.0.0.1"], picker.port)
            ref = {"name": f"{name}-epp", "port": {"number": 9002}, "failureMode": mode}
            await suite.stage.pool(f"{name}-pool", found, {"app": name}, ref, **spec)
            yield Model(name, pods, found, picker)


async def served_by(suite: Suite, times: int, at_once: int, **options: Any) -> list[dict[str, Any]]:
    """What that many requests are answered with; each must be a 200."""
    answers: list[bytes] = []
    for _ in range(times // at_once):
        answers += await asyncio.gather(*(suite.post(**options) for _ in range(at_once)))
    assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)
    return [said(answer) for answer in answers]


# --- statuses ------------------------------------------------------------------------------------


async def test_inference_pool_accepted(suite: Suite) -> None:
    await suite.stage.pool("primary-pool", [3000], {"app": "primary"})
    await suite.route("httproute", path_rule("/", pool_ref("primary-pool")))
    await suite.stage.pool_is("primary-pool", "Accepted", "True", "Accepted")
    pool = await suite.stage.get(INFERENCE_POOLS, "primary-pool")
    [parent] = pool["status"]["parents"]
    assert parent["parentRef"]["name"] == PRIMARY
    assert parent["parentRef"]["namespace"] == suite.infra
    assert parent["controllerName"] == suite.stage.controller_name


async def test_inference_pool_resolved_refs_condition(suite: Suite) -> None:
    async with model(suite, "primary", 11) as primary:
        rule = path_rule("/", pool_ref("primary-pool"))
        await suite.route("one", rule, host="primary.example.com")
        await suite.route("two", rule, gateway=SECONDARY, host="secondary.example.com")

        def both(status: Object) -> bool:
            return {one["parentRef"]["name"] for one in status.get("parents") or ()} == {
                PRIMARY,
                SECONDARY,
            }

        pool = await suite.stage.until(INFERENCE_POOLS, "primary-pool", both)
        for parent in pool["status"]["parents"]:
            states = {one["type"]: one["status"] for one in parent["conditions"]}
            assert states == {"Accepted": "True", "ResolvedRefs": "True"}
        for host in ("primary.example.com", "secondary.example.com"):
            assert said(await suite.until_status(200, host=host))["pod"] in primary.names

        objects, namespace = suite.stage.cluster.objects, suite.stage.namespace
        await objects.delete(HTTP_ROUTES, "one", namespace)
        await suite.until_status(404, host="primary.example.com")
        await suite.until_status(200, host="secondary.example.com")
        pool = await suite.stage.until(
            INFERENCE_POOLS, "primary-pool", lambda status: len(status["parents"]) == 1
        )
        assert pool["status"]["parents"][0]["parentRef"]["name"] == SECONDARY

        await objects.delete(HTTP_ROUTES, "two", namespace)
        await suite.stage.until(
            INFERENCE_POOLS, "primary-pool", lambda status: status["parents"] == []
        )
        await suite.until_status(404, host="secondary.example.com")


async def test_inference_pool_invalid_epp_service(suite: Suite) -> None:
    picker = {"name": "non-existent-epp-svc", "port": {"number": 9002}}
    await suite.stage.pool("pool", [3000], {"app": "primary"}, picker)
    await suite.route("httproute", path_rule("/invalid", pool_ref("pool")))
    await suite.stage.route_is("httproute", "Accepted", "True", "Accepted")
    await suite.stage.pool_is("pool", "ResolvedRefs", "False", "InvalidExtensionRef")
    await suite.until_status(503, "/invalid")


async def test_inference_pool_missing_epp_ref(suite: Suite) -> None:
    await suite.stage.pool("pool", [3000], {"app": "primary"})
    await suite.route("httproute", path_rule("/", pool_ref("pool")))
    await suite.stage.route_is("httproute", "Accepted", "True", "Accepted")
    await suite.stage.pool_is("pool", "Accepted", "True", "Accepted")  # we pick ourselves


async def test_httproute_invalid_inference_pool_ref(suite: Suite) -> None:
    await suite.route("httproute", path_rule("/", pool_ref("non-existent-pool")))
    await suite.stage.route_is("httproute", "Accepted", "True", "Accepted")
    await suite.stage.route_is("httproute", "ResolvedRefs", "False", "BackendNotFound")


async def test_inference_pool_httproute_port_validation(suite: Suite) -> None:
    async with model(suite, "primary", 12) as primary:
        ports: dict[str, Object] = {
            "unspecified": {},
            "matching": {"port": primary.ports[0]},
            "non-matching": {"port": 12_345},
        }
        for kind, port in ports.items():
            await suite.route(
                f"route-{kind}", path_rule(f"/{kind}", pool_ref("primary-pool", **port))
            )
        for kind in ports:
            await suite.stage.route_is(f"route-{kind}", "Accepted", "True", "Accepted")
            await suite.stage.route_is(f"route-{kind}", "ResolvedRefs", "True", "ResolvedRefs")
            answer = await suite.stage.answers(200, f"/{kind}", host="primary.example.com")
            assert said(answer)["pod"] in primary.names


# --- traffic -------------------------------------------------------------------------------------


async def test_httproute_multiple_rules_different_pools(suite: Suite) -> None:
    async with model(suite, "primary", 13) as primary, model(suite, "secondary", 14) as secondary:
        await suite.route(
            "httproute",
            path_rule("/primary", pool_ref("primary-pool")),
            path_rule("/secondary", pool_ref("secondary-pool")),
        )
        for one in (primary, secondary):
            assert said(await suite.until_status(200, f"/{one.name}"))["pod"] in one.names


async def test_httproute_multiple_gateways_different_pools(suite: Suite) -> None:
    async with model(suite, "primary", 15) as primary, model(suite, "secondary", 16) as secondary:
        for one, gateway in ((primary, PRIMARY), (secondary, SECONDARY)):
            await suite.route(
                one.name,
                path_rule("/", pool_ref(f"{one.name}-pool")),
                gateway=gateway,
                host=f"{one.name}.example.com",
            )
        for one in (primary, secondary):
            host = f"{one.name}.example.com"
            assert said(await suite.until_status(200, host=host))["pod"] in one.names


async def test_gateway_following_epp_routing(suite: Suite) -> None:
    async with model(suite, "primary", 17) as primary:
        await suite.route("httproute", path_rule("/", pool_ref("primary-pool")))
        for number, pod in enumerate(primary.pods):
            answer = await suite.until_status(200, selection=[primary.at(number)])
            assert said(answer)["pod"] == pod.name
        for size in (1, 2, 3):
            ips = [pod.ip for pod in primary.pods[:size]]
            seen = await served_by(suite, 100, 10, selection=ips)
            assert {one["pod"] for one in seen} == {pod.name for pod in primary.pods[:size]}


async def test_gateway_following_epp_routing_with_data_parallelism(suite: Suite) -> None:
    async with model(suite, "dp", 18, ports=3) as dp:
        await suite.route("httproute", path_rule("/", pool_ref("dp-pool")))
        await suite.until_status(200)
        ip = [pod.ip for pod in dp.pods]
        every = set(dp.ports)
        cases: list[tuple[list[str], dict[int, set[int]]]] = [
            ([ip[1]], {1: every}),
            ([ip[0], dp.at(2, 1)], {0: every, 2: {dp.ports[1]}}),
            (
                [ip[0], dp.at(1, 0), dp.at(1, 2), ip[2]],
                {0: every, 1: {dp.ports[0], dp.ports[2]}, 2: every},
            ),
        ]
        for selection, allowed in cases:
            by_name = {dp.pods[number].name: ports for number, ports in allowed.items()}
            for one in await served_by(suite, 100, 10, selection=selection):
                assert one["httpPort"] in by_name[one["pod"]]


async def test_gateway_weighted_across_two_inference_pools(suite: Suite) -> None:
    async with model(suite, "primary", 19) as primary, model(suite, "secondary", 20) as secondary:
        await suite.route(
            "httproute",
            path_rule(
                "/",
                pool_ref("primary-pool", weight=70),
                pool_ref("secondary-pool", weight=30),
            ),
        )
        everyone = [pod.ip for one in (primary, secondary) for pod in one.pods]
        await suite.until_status(200, selection=everyone)
        seen = Counter(one["pod"] for one in await served_by(suite, 200, 5, selection=everyone))
        assert set(seen) <= primary.names | secondary.names
        share = sum(seen[name] for name in primary.names) / 200
        assert abs(share - 0.70) <= max(0.10, 4.5 * sqrt(0.7 * 0.3 / 200))


async def test_gateway_destination_endpoint_served(suite: Suite) -> None:
    async with model(suite, "primary", 21) as primary:
        await suite.route("httproute", path_rule("/", pool_ref("primary-pool")))
        for number, pod in enumerate(primary.pods):
            answer = await suite.until_status(200, selection=[pod.ip])
            assert said(answer)["pod"] == pod.name
            served = f"{SERVED_HEADER}: {primary.at(number)}\r\n".encode()
            assert served in answer.lower()
            assert primary.picker.served[-1] == primary.at(number)


@pytest.mark.parametrize("way", ["the Service loses its endpoints", "the picker hangs up"])
async def test_epp_unavailable_fail_open(suite: Suite, way: str) -> None:
    async with model(suite, "secondary", 22, mode="FailOpen") as secondary:
        await suite.route("httproute", path_rule("/", pool_ref("secondary-pool")))
        answer = await suite.until_status(200, selection=[secondary.pods[1].ip])
        assert said(answer)["pod"] == secondary.pods[1].name
        asked = len(secondary.picker.heads)
        objects, namespace = suite.stage.cluster.objects, suite.stage.namespace
        if way == "the picker hangs up":
            secondary.picker.script = _hang_up
        else:
            await objects.merge_patch(
                ENDPOINT_SLICES, "secondary-epp-1", {"endpoints": []}, namespace
            )
            await eventually(lambda: _not_asked(suite, secondary.picker))
            asked = len(secondary.picker.heads)
        seen = await served_by(suite, 12, 3, selection=[secondary.pods[1].ip])
        assert {one["pod"] for one in seen} == secondary.names
        assert len(secondary.picker.heads) == asked


async def _hang_up(_: Picker, __: Any, ___: Any) -> None:
    return


async def _not_asked(suite: Suite, picker: Picker) -> bool:
    """Whether a request went by the picker, which must cost no request anything."""
    before = len(picker.heads)
    assert (await suite.post()).startswith(b"HTTP/1.1 200")
    return len(picker.heads) == before


async def test_epp_unavailable_fail_close(suite: Suite) -> None:
    """Not in the suite: what it leaves out, the other mode."""
    async with model(suite, "primary", 23) as primary:
        await suite.route("httproute", path_rule("/", pool_ref("primary-pool")))
        await suite.until_status(200)
        primary.picker.script = _hang_up
        assert (await suite.post()).startswith(b"HTTP/1.1 503")


async def test_inference_pool_app_protocol(suite: Suite) -> None:
    async with (
        model(suite, "plain", 24, appProtocol="http") as plain,
        model(suite, "default", 25) as default,
    ):
        for one in (plain, default):
            await suite.route(one.name, path_rule(f"/{one.name}", pool_ref(f"{one.name}-pool")))
        for one in (plain, default):
            for number, pod in enumerate(one.pods):
                answer = await suite.until_status(200, f"/{one.name}", selection=[one.at(number)])
                assert said(answer)["pod"] == pod.name
    async with AsyncExitStack() as running:
        names = [f"h2c-{number}" for number in range(3)]
        pods = [EchoPod(name, f"127.0.26.{number + 1}") for number, name in enumerate(names)]
        port = 0
        for pod in pods:
            respond = partial(_echo_h2, pod)
            server = await running.enter_async_context(h2_server(respond, ip=pod.ip, port=port))
            port = server.port
            await suite.stage.cluster.pod(pod.name, pod.ip, labels={"app": "h2c"})
        picker = await running.enter_async_context(
            running_picker([pod.address(port) for pod in pods])
        )
        await suite.stage.service("h2c-epp", 9002, ["127.0.0.1"], picker.port)
        ref = {"name": "h2c-epp", "port": {"number": 9002}}
        protocol = "kubernetes.io/h2c"
        await suite.stage.pool("h2c-pool", [port], {"app": "h2c"}, ref, appProtocol=protocol)
        await suite.route("h2c", path_rule("/h2c", pool_ref("h2c-pool")))
        for pod in pods:
            answer = await suite.until_status(200, "/h2c", selection=[pod.address(port)])
            assert said(answer)["pod"] == pod.name
            assert picker.served[-1] == pod.address(port)


def _echo_h2(pod: EchoPod, request: Request) -> None:
    body = json.dumps({"pod": pod.name}).encode()
    request.answer(body, [(b"content-length", b"%d" % len(body))])
