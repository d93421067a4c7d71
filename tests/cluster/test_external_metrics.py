"""Our numbers as a part of the cluster's own API."""

import asyncio
from contextlib import AsyncExitStack

import msgspec
import trustme

from endpoints.kubernetes.errors import ApiError, NotFoundError
from endpoints.kubernetes.resources import CONFIG_MAPS, NAMESPACES, SERVICES, Resource
from gateway.scalers.externalmetrics import ExternalMetricsServer
from gateway.scalers.frontproxy import front_proxy_authority
from gateway.scalers.numbers import DESIRED, Numbers
from gateway.scalers.service import start_external_metrics
from gateway.settings import ExternalMetricsSettings
from gateway.waiting import WaitingRooms
from tests.support.clusters import Cluster, eventually
from tests.support.scaletargets import Scene

API_SERVICES = Resource(
    "apiregistration.k8s.io", "v1", "apiservices", "APIService", namespaced=False
)
NAME = "v1beta1.external.metrics.k8s.io"


async def _numbers() -> Numbers:
    scene = Scene(1)
    scene.controller.dry_run = True
    scene.wish = 3
    await scene.go(0.5)
    return Numbers({"default": scene.controller}, WaitingRooms(), lambda: scene.now)


async def test_the_front_proxys_authority_is_read_from_the_cluster(cluster: Cluster) -> None:
    if not cluster.real:
        authority = trustme.CA().cert_pem.bytes().decode()
        await cluster.objects.create(NAMESPACES, {"metadata": {"name": "kube-system"}})
        data = {
            "requestheader-client-ca-file": authority,
            "requestheader-allowed-names": msgspec.json.encode(["front-proxy-client"]).decode(),
        }
        item = {"metadata": {"name": "extension-apiserver-authentication"}, "data": data}
        await cluster.objects.create(CONFIG_MAPS, item, "kube-system")
    found = await front_proxy_authority(cluster.connection)
    assert found is not None
    assert found[0].startswith("-----BEGIN CERTIFICATE-----")
    async with AsyncExitStack() as running:  # and it is good enough to listen with
        server = await _serve(cluster, running)
        assert server.port


async def _serve(cluster: Cluster, running: AsyncExitStack) -> ExternalMetricsServer:
    settings = ExternalMetricsSettings(host="127.0.0.1", port=0)
    numbers = await _numbers()
    return await start_external_metrics(
        settings, numbers, cluster.connection, running, asyncio.ensure_future
    )


async def test_hpas_find_our_numbers_under_an_apiservice(cluster: Cluster) -> None:
    cluster.needs_control_plane("the stand-in aggregates no other APIs")
    async with AsyncExitStack() as running:
        server = await _serve(cluster, running)
        service = {
            "metadata": {"name": "inferway-external-metrics"},
            "spec": {
                "type": "ExternalName",
                "externalName": "localhost",
                "ports": [{"port": server.port}],
            },
        }
        await cluster.create(SERVICES, service)
        spec = {
            "group": "external.metrics.k8s.io",
            "version": "v1beta1",
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "insecureSkipTLSVerify": True,
            "service": {
                "name": "inferway-external-metrics",
                "namespace": cluster.namespace,
                "port": server.port,
            },
        }
        await cluster.objects.create(API_SERVICES, {"metadata": {"name": NAME}, "spec": spec})
        try:
            path = f"/apis/external.metrics.k8s.io/v1beta1/namespaces/default/{DESIRED}"

            async def answered() -> bool:
                try:
                    page = await cluster.connection.request("GET", path)
                except (NotFoundError, ApiError):
                    return False
                return [item["value"] for item in page["items"]] == ["3"]

            await eventually(answered, 60.0)
        finally:
            await cluster.objects.delete(API_SERVICES, NAME)
