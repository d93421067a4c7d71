"""HPA and KEDA, as they ask: an aggregated API over TLS, and a real gRPC client."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
import trustme

from gateway.scalers import kedaschema as schema
from gateway.scalers.externalmetrics import ExternalMetricsServer, make_app, quantity
from gateway.scalers.frontproxy import Asker, FrontProxy
from gateway.scalers.keda import KedaServer
from gateway.scalers.numbers import DESIRED, Numbers
from gateway.scalers.selectors import SelectorError, selector
from gateway.scalers.service import ScalersError, start_external_metrics
from gateway.settings import ExternalMetricsSettings
from gateway.waiting import WaitingRoom, WaitingRooms
from routing.fleet import Fleet
from tests.support.scaletargets import Scene

_API = "/apis/external.metrics.k8s.io/v1beta1"
_DESIRED = f"{_API}/namespaces/serving/{DESIRED}"


async def _decided(wish: int, rooms: WaitingRooms | None = None) -> tuple[Scene, Numbers]:
    scene = Scene(1)
    scene.controller.dry_run = True
    scene.wish = wish
    await scene.go(0.5)
    controllers = {"default": scene.controller}
    return scene, Numbers(controllers, rooms or WaitingRooms(), lambda: scene.now)


# --- external metrics ------------------------------------------------------------------------


@asynccontextmanager
async def _api(
    numbers: Numbers, proxy: FrontProxy, authority: trustme.CA | None = None
) -> AsyncIterator[str]:
    own = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    own.issue_cert("localhost").configure_cert(tls)
    if authority is not None:
        tls.verify_mode = ssl.CERT_REQUIRED
        authority.configure_trust(tls)
    server = ExternalMetricsServer(make_app(numbers, proxy), "127.0.0.1", 0, tls)
    await server.start()
    try:
        yield f"https://127.0.0.1:{server.port}"
    finally:
        await server.stop()


def _client(identity: trustme.LeafCert | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if identity is not None:
        identity.configure_cert(context)
    return context


async def _get(url: str, tls: ssl.SSLContext, **headers: str) -> tuple[int, Any]:
    async with aiohttp.ClientSession() as http:
        async with http.get(url, ssl=tls, headers=headers) as response:
            return response.status, await response.json()


async def test_the_api_says_what_it_has_and_what_it_is() -> None:
    scene, numbers = await _decided(3)
    async with _api(numbers, FrontProxy(anonymous=True)) as url:
        status, page = await _get(f"{url}{_API}", _client())
        assert status == 200
        assert page["kind"] == "APIResourceList"
        assert {
            "name": DESIRED,
            "singularName": "",
            "namespaced": True,
            "kind": "ExternalMetricValueList",
            "verbs": ["get"],
        } in page["resources"]
        assert (await _get(f"{url}/apis", _client()))[1]["groups"][0]["name"] == _API.split("/")[2]
        assert (await _get(f"{url}{_API.rpartition('/')[0]}", _client()))[1]["kind"] == "APIGroup"

        status, page = await _get(f"{url}{_DESIRED}?labelSelector=pool%3Ddefault", _client())
        assert status == 200
        (item,) = page["items"]
        assert item["metricName"] == DESIRED
        assert item["metricLabels"] == {"pool": "default", "role": "both"}
        assert item["value"] == "3"
        status, page = await _get(f"{url}{_DESIRED}?labelSelector=pool%3Dother", _client())
        assert page["items"] == []
        status, page = await _get(f"{url}{_DESIRED}?labelSelector=pool%3D(", _client())
        assert (status, page["reason"]) == (400, "BadRequest")
        status, page = await _get(f"{url}{_API}/namespaces/serving/nonsense", _client())
        assert (status, page["reason"]) == (404, "NotFound")
        scene.now += 3600.0  # nothing was decided since: an HPA holds when it gets nothing
        status, page = await _get(f"{url}{_DESIRED}", _client())
        assert (status, page["items"]) == (200, [])


async def test_only_the_front_proxy_may_ask_and_only_for_whom_the_cluster_lets() -> None:
    _, numbers = await _decided(2)
    authority = trustme.CA()
    front = authority.issue_cert("localhost", common_name="front-proxy-client")
    other = authority.issue_cert("localhost", common_name="somebody")
    asked: list[tuple[Asker, str, str]] = []

    async def review(asker: Asker, namespace: str, metric: str) -> bool:
        asked.append((asker, namespace, metric))
        return asker.user == "system:serviceaccount:kube-system:horizontal-pod-autoscaler"

    proxy = FrontProxy(["front-proxy-client"], review)
    hpa = "system:serviceaccount:kube-system:horizontal-pod-autoscaler"
    async with _api(numbers, proxy, authority) as url:
        headers = {"X-Remote-User": hpa, "X-Remote-Group": "system:serviceaccounts"}
        status, page = await _get(f"{url}{_DESIRED}", _client(front), **headers)
        assert (status, page["items"][0]["value"]) == (200, "2")
        assert asked == [(Asker(hpa, ("system:serviceaccounts",)), "serving", DESIRED)]
        status, page = await _get(f"{url}{_DESIRED}", _client(front), **{"X-Remote-User": "eve"})
        assert (status, page["reason"]) == (403, "Forbidden")
        status, page = await _get(f"{url}{_DESIRED}", _client(front))
        assert (status, page["reason"]) == (401, "Unauthorized")
        status, page = await _get(f"{url}{_DESIRED}", _client(other), **headers)
        assert status == 401
        with pytest.raises(aiohttp.ClientError):  # without a certificate there is no TLS
            await _get(f"{url}{_DESIRED}", _client(), **headers)


async def test_it_is_not_served_to_just_anybody_by_mistake() -> None:
    _, numbers = await _decided(2)
    async with AsyncExitStack() as running:
        with pytest.raises(ScalersError, match=r"tls\.client_ca"):
            await start_external_metrics(
                ExternalMetricsSettings(port=0), numbers, None, running, _nothing
            )
        server = await start_external_metrics(
            ExternalMetricsSettings(port=0, anonymous=True), numbers, None, running, _nothing
        )
        url = f"https://127.0.0.1:{server.port}{_DESIRED}"
        assert (await _get(url, _client()))[1]["items"][0]["value"] == "2"


def _nothing(work: Any) -> None:
    work.close()


@pytest.mark.parametrize(
    ("value", "text"),
    [(7.5, "7500m"), (3.0, "3"), (0.0, "0"), (0.0004, "0"), (1234.5678, "1234568m")],
)
def test_quantities(value: float, text: str) -> None:
    assert quantity(value) == text


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("", True),
        ("pool=a", True),
        ("pool==a,role!=decode", True),
        ("pool in (a, b),role", True),
        ("pool notin (b)", True),
        ("!spare", True),
        ("pool=b", False),
        ("!pool", False),
        ("spare", False),
        ("pool notin (a,b)", False),
    ],
)
def test_label_selectors(text: str, fits: bool) -> None:
    assert selector(text)({"pool": "a", "role": "prefill"}) is fits


@pytest.mark.parametrize("text", ["pool=(", "a b", "in (a)", ",", "pool in a"])
def test_selectors_that_can_not_be_read(text: str) -> None:
    with pytest.raises(SelectorError, match="can't read"):
        selector(text)


# --- KEDA ------------------------------------------------------------------------------------


@asynccontextmanager
async def _keda(numbers: Numbers) -> AsyncIterator[grpc.aio.Channel]:
    server = KedaServer(numbers, asyncio.get_running_loop().time)
    await server.start("127.0.0.1", 0)
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            yield channel
    finally:
        await server.stop()


def _ref(**metadata: str) -> Any:
    return schema.ScaledObjectRef(name="so", namespace="serving", scalerMetadata=metadata)


async def _call(channel: grpc.aio.Channel, method: str, message: Any, answer: Any) -> Any:
    call = channel.unary_unary(
        f"/externalscaler.ExternalScaler/{method}",
        request_serializer=lambda one: one.SerializeToString(),
        response_deserializer=answer.FromString,
    )
    return await call(message, timeout=5)


async def test_keda_is_told_the_metric_its_target_and_its_value() -> None:
    _, numbers = await _decided(3)
    async with _keda(numbers) as channel:
        ref = _ref(pool="default", role="both")
        spec = await _call(channel, "GetMetricSpec", ref, schema.GetMetricSpecResponse)
        (one,) = spec.metricSpecs
        assert one.metricName == "inferway_desired_replicas-default-both"
        assert (one.targetSize, one.targetSizeFloat) == (1, 1.0)
        asked = schema.GetMetricsRequest(scaledObjectRef=ref, metricName=one.metricName)
        values = await _call(channel, "GetMetrics", asked, schema.GetMetricsResponse)
        (value,) = values.metricValues
        assert value.metricName == one.metricName
        assert (value.metricValue, value.metricValueFloat) == (3, 3.0)
        active = await _call(channel, "IsActive", _ref(), schema.IsActiveResponse)
        assert active.result is True


async def test_keda_is_told_what_can_not_be_and_what_is_not_known() -> None:
    scene, numbers = await _decided(0)
    async with _keda(numbers) as channel:
        active = await _call(channel, "IsActive", _ref(), schema.IsActiveResponse)
        assert active.result is False
        for metadata, code in (
            ({"pool": "other"}, grpc.StatusCode.NOT_FOUND),
            ({"role": "decode"}, grpc.StatusCode.NOT_FOUND),
            ({"metric": "cpu"}, grpc.StatusCode.INVALID_ARGUMENT),
            ({"target": "-1"}, grpc.StatusCode.INVALID_ARGUMENT),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await _call(
                    channel, "GetMetricSpec", _ref(**metadata), schema.GetMetricSpecResponse
                )
            assert caught.value.code() is code
        scene.now += 3600.0
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            asked = schema.GetMetricsRequest(scaledObjectRef=_ref(), metricName="x")
            await _call(channel, "GetMetrics", asked, schema.GetMetricsResponse)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_keda_is_pushed_the_first_request_of_a_pool_at_zero() -> None:
    rooms = WaitingRooms()
    loop = asyncio.get_running_loop()
    room = WaitingRoom("default", Fleet(), now=loop.time, models=["m"])
    rooms.add(room)
    _, numbers = await _decided(0, rooms)
    async with _keda(numbers) as channel:
        call = channel.unary_stream(
            "/externalscaler.ExternalScaler/StreamIsActive",
            request_serializer=lambda one: one.SerializeToString(),
            response_deserializer=schema.IsActiveResponse.FromString,
        )(_ref(pool="default"))
        assert (await asyncio.wait_for(call.read(), 5)).result is False
        ticket = room.enter("m", lambda: False, 10)
        assert (await asyncio.wait_for(call.read(), 5)).result is True
        ticket.leave()
        assert (await asyncio.wait_for(call.read(), 5)).result is False
        call.cancel()
    room.close()


def test_files_for_the_cluster_name_what_is_served() -> None:
    folder = Path("deploy/kubernetes/scaling")
    text = (folder / "external-metrics.yaml").read_text()
    assert "v1beta1.external.metrics.k8s.io" in text
    assert "external-push" in (folder / "keda-scaledobject.yaml").read_text()
