"""Gateways, HTTPRoutes and their statuses, with traffic to Services and to pools of ours."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from endpoints.kubernetes.connection import ClusterSettings, open_connection
from endpoints.kubernetes.listwatch import Phase
from endpoints.kubernetes.objects import Objects
from endpoints.kubernetes.resources import INFERENCE_POOLS, SECRETS, SERVICES, Object
from gateway.app import Gateway
from gateway.gatewayapi.controller import GATEWAY_CLASSES, GATEWAYS, HTTP_ROUTES
from gateway.gatewayapi.plan import Place
from gateway.settings import (
    AdminSettings,
    GatewayApiSettings,
    GatewayPort,
    KubernetesSettings,
    ListenSettings,
    LogSettings,
    ProbeSettings,
    Settings,
)
from tests.support.clusters import Cluster, eventually
from tests.support.echo import echo_pods, said
from tests.support.gateways import MODEL, chat, post, read_response, send
from tests.support.gatewaystage import (
    Stage,
    backend,
    condition,
    gateway_stage,
    listener,
    parent_condition,
    path_rule,
    pool_ref,
)
from tests.support.kustomizations import KUBERNETES, build
from tests.support.upstreams import Upstream, unary


def _redirect() -> Object:
    return {
        "type": "RequestRedirect",
        "requestRedirect": {"hostname": "new.example.com", "port": 443},
    }


async def _is(asked: Callable[[str], Awaitable[bytes]], name: str, part: bytes) -> bool:
    return part in await asked(name)


_NO_LOOPBACK = "EndpointSlices of a real API server must not have loopback addresses"


@pytest.fixture
async def stage(cluster: Cluster) -> AsyncIterator[Stage]:
    async with gateway_stage(cluster) as found:
        yield found


async def test_a_class_of_ours_is_accepted_and_others_are_left_alone(stage: Stage) -> None:
    other = f"{stage.gateway_class}-other"
    await stage.cluster.objects.create(
        GATEWAY_CLASSES,
        {"metadata": {"name": other}, "spec": {"controllerName": "example.com/other"}},
    )
    try:
        found = await stage.until(
            GATEWAY_CLASSES,
            stage.gateway_class,
            lambda status: condition(status, "Accepted") == ("True", "Accepted"),
        )
        assert {"name": "InferencePool"} in found["status"]["supportedFeatures"]
        unknown = await stage.get(GATEWAY_CLASSES, other)
        assert condition(unknown.get("status") or {}, "Accepted") != ("True", "Accepted")
    finally:
        await stage.cluster.objects.delete(GATEWAY_CLASSES, other)


async def test_a_gateway_says_how_its_listeners_are(stage: Stage) -> None:
    await stage.gateway(
        "gw",
        listener(),
        listener("other", 81, hostname="b.example.com"),
        listener("tcp", 8080, "TCP"),
    )
    found = await stage.programmed()
    status = found["status"]
    assert status["addresses"] == [{"type": "IPAddress", "value": "127.0.0.1"}]
    assert condition(status, "Accepted") == ("True", "ListenersNotValid")
    by_name = {one["name"]: one for one in status["listeners"]}
    assert condition(by_name["http"], "Programmed") == ("True", "Programmed")
    assert condition(by_name["other"], "Programmed") == ("True", "Programmed")
    assert condition(by_name["tcp"], "Accepted") == ("False", "UnsupportedProtocol")
    assert by_name["http"]["supportedKinds"][0]["kind"] == "HTTPRoute"
    assert {one["observedGeneration"] for one in status["conditions"]} == {
        found["metadata"]["generation"]
    }
    # A younger Gateway on the same address may not have the same host name on the same port.
    await stage.gateway("younger", listener("again"))

    def conflicts(status: Object) -> bool:
        return bool(status.get("listeners")) and condition(
            status["listeners"][0], "Conflicted"
        ) == ("True", "HostnameConflict")

    younger = await stage.until(GATEWAYS, "younger", conflicts)
    [again] = younger["status"]["listeners"]
    assert condition(again, "Programmed") == ("False", "Invalid")


async def test_routes_lead_to_services(stage: Stage) -> None:
    stage.cluster.stand_in_only(_NO_LOOPBACK)
    async with echo_pods(["one", "two"], ["127.0.0.1", "127.0.0.2"]) as (pods, [port]):
        await stage.gateway()
        await stage.service("all", 8000, [pod.ip for pod in pods], port)
        await stage.service("first", 8000, [pods[0].ip], port)
        await stage.route(
            "web",
            [path_rule("/all", backend("all", 8000)), path_rule("/x", backend("first", 8000))],
        )
        await stage.route_is("web", "Accepted", "True", "Accepted")
        await stage.route_is("web", "ResolvedRefs", "True", "ResolvedRefs")
        await stage.programmed()
        assert said(await stage.answers(200, "/x/y"))["pod"] == "one"
        seen = {said(await stage.ask("/all"))["pod"] for _ in range(4)}
        assert seen == {"one", "two"}
        assert (await stage.ask("/nowhere")).startswith(b"HTTP/1.1 404")
        gateway = await stage.get(GATEWAYS, "gw")
        assert gateway["status"]["listeners"][0]["attachedRoutes"] == 1
        # What goes away is gone for traffic and statuses, too.
        await stage.cluster.objects.delete(HTTP_ROUTES, "web", stage.namespace)
        await stage.answers(404, "/x/y")
        await stage.until(GATEWAYS, "gw", lambda said: said["listeners"][0]["attachedRoutes"] == 0)


async def test_a_service_that_is_missing_is_said_and_comes_later(stage: Stage) -> None:
    stage.cluster.stand_in_only(_NO_LOOPBACK)
    await stage.gateway()
    await stage.route("web", [path_rule("/", backend("late", 80))])
    await stage.route_is("web", "ResolvedRefs", "False", "BackendNotFound")
    await stage.programmed()
    await stage.answers(500)
    async with echo_pods(["one"], ["127.0.0.1"]) as (pods, [port]):
        await stage.service("late", 80, [pods[0].ip], port)
        await stage.route_is("web", "ResolvedRefs", "True", "ResolvedRefs")
        await stage.answers(200)
        await stage.cluster.objects.delete(SERVICES, "late", stage.namespace)
        await stage.answers(500)


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ({"filters": [{"type": "ExtensionRef"}]}, "UnsupportedValue"),
        ({"filters": [{"type": "RequestMirror", "requestMirror": {}}]}, "UnsupportedValue"),
    ],
)
async def test_what_is_not_supported_is_said(stage: Stage, rule: Object, reason: str) -> None:
    stage.cluster.stand_in_only("a real API server checks the shape of filters first")
    await stage.gateway()
    await stage.route("web", [rule])
    await stage.route_is("web", "Accepted", "False", reason)


async def test_a_route_of_another_namespace_needs_to_be_allowed(stage: Stage) -> None:
    await stage.gateway("gw", listener(hostname="a.example.com"))
    await stage.route("elsewhere", [path_rule("/")], hostnames=["b.example.com"])
    await stage.route("nowhere", [path_rule("/")], parents=[{"name": "gw", "sectionName": "no"}])
    await stage.route_is("elsewhere", "Accepted", "False", "NoMatchingListenerHostname")
    await stage.route_is("nowhere", "Accepted", "False", "NoMatchingParent")


async def test_others_entries_of_a_status_stay(stage: Stage) -> None:
    await stage.gateway()
    await stage.route("web", [path_rule("/")], parents=[{"name": "gw"}, {"name": "somebody-elses"}])
    await stage.route_is("web", "Accepted", "True", "Accepted")
    theirs = {
        "parentRef": {"name": "somebody-elses"},
        "controllerName": "example.com/other",
        "conditions": [
            {
                "type": "Accepted",
                "status": "True",
                "reason": "Accepted",
                "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }
        ],
    }
    found = await stage.get(HTTP_ROUTES, "web")
    parents = [theirs, *found["status"]["parents"]]
    await stage.cluster.objects.patch_status(
        HTTP_ROUTES, "web", {"parents": parents}, stage.namespace
    )
    await stage.cluster.objects.merge_patch(
        HTTP_ROUTES, "web", {"spec": {"parentRefs": [{"name": "somebody-elses"}]}}, stage.namespace
    )
    await stage.until(
        HTTP_ROUTES,
        "web",
        lambda said: [one["controllerName"] for one in said["parents"]] == ["example.com/other"],
    )


async def test_https_listeners_show_the_secret_of_the_name_asked_for(stage: Stage) -> None:
    authority = trustme.CA()
    for name, host in (("a", "a.example.com"), ("b", "*.b.example.com")):
        leaf = authority.issue_cert(host)
        chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
        await stage.tls_secret(name, chain, leaf.private_key_pem.bytes())
    await stage.tls_secret("broken", b"no certificate", b"no key")
    await stage.gateway(
        "gw",
        *(
            listener(
                name,
                443,
                "HTTPS",
                hostname=host,
                tls={"mode": "Terminate", "certificateRefs": [{"name": name}]},
            )
            for name, host in (
                ("a", "a.example.com"),
                ("b", "*.b.example.com"),
                ("broken", "c.example.com"),
                ("missing", "d.example.com"),
            )
        ),
    )
    await stage.route("web", [{"filters": [_redirect()]}])
    found = await stage.programmed()
    by_name = {one["name"]: one for one in found["status"]["listeners"]}
    wrong = ("False", "InvalidCertificateRef")
    assert condition(by_name["broken"], "ResolvedRefs") == wrong
    assert condition(by_name["missing"], "ResolvedRefs") == wrong

    context = ssl.create_default_context()
    authority.configure_trust(context)

    async def asked(name: str) -> bytes:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", stage.port(443), ssl=context, server_hostname=name
        )
        writer.write(f"GET /x HTTP/1.1\r\nhost: {name}\r\n\r\n".encode())
        answer = await read_response(reader)
        writer.close()
        return answer

    await eventually(lambda: _is(asked, "a.example.com", b"location: https://new.example.com/x"))
    assert b" 302 " in await asked("x.b.example.com")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asked("other.example.com")
    # A renewed certificate is shown without a restart.
    leaf = authority.issue_cert("a.example.com", "more.example.com")
    chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
    data = stage.tls_data(chain, leaf.private_key_pem.bytes())
    await stage.cluster.objects.merge_patch(SECRETS, "a", {"data": data}, stage.namespace)

    async def shows_more() -> bool:
        _, writer = await asyncio.open_connection(
            "127.0.0.1", stage.port(443), ssl=context, server_hostname="a.example.com"
        )
        shown = writer.get_extra_info("peercert")["subjectAltName"]
        writer.close()
        return ("DNS", "more.example.com") in shown

    await eventually(shows_more)


async def test_a_pool_is_ours_when_it_names_nobody(stage: Stage) -> None:
    async with echo_pods(["one"], ["127.0.0.21"]) as (pods, [port]):
        await stage.cluster.pod("one", pods[0].ip, labels={"app": "llm"})
        await stage.gateway()
        await stage.pool("llm", [port], {"app": "llm"})
        await stage.route("web", [path_rule("/echo", pool_ref("llm"))])
        await stage.pool_is("llm", "Accepted", "True", "Accepted")
        await stage.pool_is("llm", "ResolvedRefs", "True", "ResolvedRefs")
        assert said(await stage.answers(200, "/echo/x"))["pod"] == "one"
        assert (await stage.ask("/v1/chat/completions", body=chat())).startswith(b"HTTP/1.1 404")
        await stage.cluster.pod_status("one", ip=pods[0].ip, ready=False)
        await stage.answers(503, "/echo/x")
        await stage.cluster.objects.delete(HTTP_ROUTES, "web", stage.namespace)
        await stage.until(INFERENCE_POOLS, "llm", lambda said: said.get("parents") == [])


async def test_statuses_are_not_written_again_and_again(stage: Stage) -> None:
    await stage.gateway()
    await stage.route("web", [path_rule("/", backend("gone", 80))])
    await stage.route_is("web", "ResolvedRefs", "False", "BackendNotFound")
    await stage.programmed()
    versions = [
        (await stage.get(resource, name))["metadata"]["resourceVersion"]
        for resource, name in ((GATEWAYS, "gw"), (HTTP_ROUTES, "web"))
    ]
    await stage.pool("unrelated", [80], {"app": "x"})
    planned = stage.controller.plans
    await eventually(lambda: stage.controller.plans > planned)
    assert versions == [
        (await stage.get(resource, name))["metadata"]["resourceVersion"]
        for resource, name in ((GATEWAYS, "gw"), (HTTP_ROUTES, "web"))
    ]
    assert parent_condition((await stage.get(HTTP_ROUTES, "web"))["status"], "Accepted") == (
        "True",
        "Accepted",
    )


async def test_one_process_discovers_pools_and_is_their_gateway(cluster: Cluster) -> None:
    name = f"inferway.dev/{cluster.namespace}"
    where = cluster.settings
    settings = Settings(
        listen=ListenSettings(port=0),
        admin=AdminSettings(port=0),
        kubernetes=KubernetesSettings(
            url=where.url, kubeconfig=where.kubeconfig, namespaces=(cluster.namespace,)
        ),
        gateway_api=GatewayApiSettings(controller=name, ports=(GatewayPort(gateway=80, listen=0),)),
        probes=ProbeSettings(interval=0.1, models_interval=0.2),
        log=LogSettings(access=False, level="warning"),
    )
    await cluster.objects.create(
        GATEWAY_CLASSES,
        {"metadata": {"name": cluster.namespace}, "spec": {"controllerName": name}},
    )
    gateway = Gateway(settings)
    await gateway.start()
    try:
        async with Upstream(unary(), port=0) as upstream:
            await cluster.pod(
                "one",
                "127.0.0.1",
                labels={"app": "llm"},
                annotations={"inferway.dev/models": MODEL},
            )
            await cluster.create(
                GATEWAYS,
                {
                    "metadata": {"name": "gw"},
                    "spec": {"gatewayClassName": cluster.namespace, "listeners": [listener()]},
                },
            )
            pool = {
                "selector": {"matchLabels": {"app": "llm"}},
                "targetPorts": [{"number": upstream.port}],
            }
            await cluster.create(INFERENCE_POOLS, {"metadata": {"name": "llm"}, "spec": pool})
            rules = [path_rule("/", pool_ref("llm"))]
            route = {"parentRefs": [{"name": "gw"}], "rules": rules}
            await cluster.create(HTTP_ROUTES, {"metadata": {"name": "llm"}, "spec": route})
            data = post("/v1/chat/completions", chat())

            async def answers() -> bool:
                assert gateway.gateways is not None
                port = gateway.gateways.ports.port_of(Place("127.0.0.1", 80))
                return port is not None and b" 200 OK" in await send(port, data)

            await eventually(answers)
            router = gateway.brains.of(f"{cluster.namespace}/llm")
            assert router is not None
            [state] = router.fleet
            assert state.ledger.requests == 0
            hosts = {
                one.fields[b"host"] for one in upstream.received if one.head.startswith(b"POST")
            }
            assert hosts == {b"gateway"}  # as the client wrote it
            # A pool that is made anew under its name has a new brain, which is asked from then on.
            await cluster.objects.delete(INFERENCE_POOLS, "llm", cluster.namespace)
            await eventually(lambda: gateway.brains.of(f"{cluster.namespace}/llm") is None)
            await cluster.create(INFERENCE_POOLS, {"metadata": {"name": "llm"}, "spec": pool})
            await eventually(answers)
            assert gateway.brains.of(f"{cluster.namespace}/llm") is not router
        await gateway.drain()
    finally:
        await gateway.stop()
        await cluster.objects.delete(GATEWAY_CLASSES, cluster.namespace)


async def test_the_deployed_role_is_enough(
    cluster: Cluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = cluster.stand_in_only("its access rules are those of the base in deploy/")
    rules = build(KUBERNETES / "gateway").one("ClusterRole")["rules"]
    token = tmp_path / "token"
    token.write_text("gateway-token")
    tester = tmp_path / "tester"
    tester.write_text("tester-token")
    server.access.grant("gateway", rules)
    server.access.tokens |= {"gateway-token": "gateway", "tester-token": "tester"}
    here = ClusterSettings(url=server.url, token_file=str(tester))
    connection = await open_connection(here)
    everything = replace(
        cluster, settings=here, connection=connection, objects=Objects(connection, "tester")
    )
    settings = Settings(
        listen=ListenSettings(port=0),
        admin=AdminSettings(port=0),
        kubernetes=KubernetesSettings(
            url=server.url, token_file=str(token), namespaces=("*",), nodes=False
        ),
        gateway_api=GatewayApiSettings(ports=(GatewayPort(gateway=80, listen=0),)),
        log=LogSettings(access=False),
    )
    gateway = Gateway(settings)
    try:
        item = {
            "metadata": {"name": "inferway"},
            "spec": {"controllerName": "inferway.dev/gateway-controller"},
        }
        await everything.objects.create(GATEWAY_CLASSES, item)
        await gateway.start()
        stage = Stage(everything, None, "inferway", "")  # type: ignore[arg-type]
        await stage.gateway()
        await stage.pool("llm", [8000], {"app": "llm"})
        await stage.route("web", [path_rule("/", pool_ref("llm"))])
        await stage.programmed()
        await stage.route_is("web", "ResolvedRefs", "True", "ResolvedRefs")
        await stage.pool_is("llm", "Accepted", "True", "Accepted")
        assert gateway.gateways is not None
        phases = {one.resource.name: one.condition.phase for one in gateway.gateways.caches()}
        assert set(phases.values()) == {Phase.SYNCED}
        assert "can't be written" not in caplog.text
        await everything.objects.delete(GATEWAY_CLASSES, "inferway")
    finally:
        await gateway.stop()
        await connection.close()
        server.access.tokens.clear()


async def test_a_lost_api_server_changes_nothing_for_clients(stage: Stage) -> None:
    server = stage.cluster.stand_in_only("it is stopped")
    async with echo_pods(["one"], ["127.0.0.1"]) as (pods, [port]):
        await stage.gateway()
        await stage.service("svc", 80, [pods[0].ip], port)
        await stage.route("web", [path_rule("/", backend("svc", 80))])
        await stage.programmed()
        await stage.answers(200)
        await server.stop()
        await eventually(lambda: not stage.controller.caches[0].synced)
        assert (await stage.ask()).startswith(b"HTTP/1.1 200")
        await server.start()
        await stage.route("late", [path_rule("/late", backend("svc", 80))])
        await stage.route_is("late", "Accepted", "True", "Accepted")
        await stage.answers(200, "/late")
