"""A cluster with a Gateway controller of ours, and shorthand for the objects that it follows."""

import base64
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec

from endpoints.kubernetes.resources import (
    ENDPOINT_SLICES,
    INFERENCE_POOLS,
    SECRETS,
    SERVICES,
    Object,
    Resource,
)
from gateway.brains import Brains
from gateway.gatewayapi.controller import (
    GATEWAY_CLASSES,
    GATEWAYS,
    HTTP_ROUTES,
    REFERENCE_GRANTS,
    GatewayController,
)
from gateway.gatewayapi.plan import GatewayRules, Place
from gateway.gatewayapi.ports import ListeningPorts
from gateway.picking.pickers import GrpcPickers
from gateway.pool import Pool
from gateway.proxy.context import ProxyContext
from gateway.proxy.pool import Pools, PoolSettings
from gateway.record import RequestRecord
from gateway.settings import PickerSettings, ProbeSettings, ProxySettings, Settings
from gateway.telemetry import Telemetry
from tests.support.clusters import QUICK, Cluster, eventually
from tests.support.gateways import send
from tests.support.ownpools import OwnPools

ADDRESSES = ("127.0.0.1", "127.0.0.2")


@dataclass
class Stage:
    """The cluster, the controller, and what tests ask of them."""

    cluster: Cluster
    controller: GatewayController
    gateway_class: str
    controller_name: str
    records: list[RequestRecord] = field(default_factory=list)

    @property
    def namespace(self) -> str:
        return self.cluster.namespace

    # --- objects -------------------------------------------------------------------------------

    async def gateway(
        self, name: str = "gw", *listeners: Object, address: str | None = None
    ) -> Object:
        """A Gateway; without listeners given, one for HTTP on port 80."""
        spec: Object = {
            "gatewayClassName": self.gateway_class,
            "listeners": list(listeners) or [listener()],
        }
        if address is not None:
            spec["addresses"] = [{"type": "IPAddress", "value": address}]
        return await self._create(GATEWAYS, name, spec)

    async def route(
        self,
        name: str,
        rules: Sequence[Object],
        *,
        parents: Sequence[Object] = ({"name": "gw"},),
        hostnames: Sequence[str] = (),
        namespace: str | None = None,
    ) -> Object:
        spec: Object = {"parentRefs": list(parents), "rules": list(rules)}
        if hostnames:
            spec["hostnames"] = list(hostnames)
        return await self._create(HTTP_ROUTES, name, spec, namespace)

    async def pool(
        self,
        name: str,
        ports: Sequence[int],
        labels: Mapping[str, str],
        picker: Object | None = None,
        **more: Any,
    ) -> Object:
        spec: Object = {
            "selector": {"matchLabels": dict(labels)},
            "targetPorts": [{"number": port} for port in ports],
            **more,
        }
        if picker is not None:
            spec["endpointPickerRef"] = picker
        return await self._create(INFERENCE_POOLS, name, spec)

    async def service(
        self,
        name: str,
        port: int,
        addresses: Sequence[str],
        target_port: int,
        *,
        namespace: str | None = None,
    ) -> None:
        """A Service without a selector, and its addresses."""
        entry = {"name": "http", "port": port, "targetPort": target_port, "protocol": "TCP"}
        await self._create(SERVICES, name, {"ports": [entry]}, namespace)
        item = {
            "metadata": {
                "name": f"{name}-1",
                "labels": {"kubernetes.io/service-name": name},
            },
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": target_port, "protocol": "TCP"}],
            "endpoints": [
                {"addresses": [address], "conditions": {"ready": True}} for address in addresses
            ],
        }
        await self.cluster.objects.create(
            ENDPOINT_SLICES, item, namespace or self.cluster.namespace
        )

    async def tls_secret(
        self, name: str, chain: bytes, key: bytes, namespace: str | None = None
    ) -> None:
        data = self.tls_data(chain, key)
        item = {"metadata": {"name": name}, "type": "kubernetes.io/tls", "data": data}
        await self.cluster.objects.create(SECRETS, item, namespace or self.namespace)

    @staticmethod
    def tls_data(chain: bytes, key: bytes) -> Object:
        return {
            "tls.crt": base64.b64encode(chain).decode(),
            "tls.key": base64.b64encode(key).decode(),
        }

    async def grant(self, namespace: str, spec: Object, name: str = "grant") -> None:
        await self._create(REFERENCE_GRANTS, name, spec, namespace)

    async def _create(
        self, resource: Resource, name: str, spec: Object, namespace: str | None = None
    ) -> Object:
        item = {
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": {"name": name},
            "spec": spec,
        }
        return await self.cluster.objects.create(resource, item, namespace or self.namespace)

    # --- statuses ------------------------------------------------------------------------------

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Object:
        where = (namespace or self.namespace) if resource.namespaced else None
        return await self.cluster.objects.get(resource, name, where)

    async def until(
        self,
        resource: Resource,
        name: str,
        holds: Callable[[Object], bool],
        namespace: str | None = None,
    ) -> Object:
        """Wait for an object's status to be as it should."""
        seen: list[Object] = []

        async def fits() -> bool:
            item = await self.get(resource, name, namespace)
            seen[:] = [item]
            return holds(item.get("status") or {})

        try:
            await eventually(fits)
        except TimeoutError:
            raise AssertionError(f"{name} stays {seen[0].get('status')}") from None
        return seen[0]

    async def programmed(self, name: str = "gw") -> Object:
        """Wait until a Gateway serves."""
        return await self.until(
            GATEWAYS, name, lambda status: condition(status, "Programmed") == ("True", "Programmed")
        )

    async def route_is(self, name: str, type_: str, status: str, reason: str) -> None:
        """Wait for a condition of a route's first parent."""
        await self.until(
            HTTP_ROUTES, name, lambda said: parent_condition(said, type_) == (status, reason)
        )

    async def pool_is(self, name: str, type_: str, status: str, reason: str) -> None:
        """Wait for a condition of a pool's first parent."""
        await self.until(
            INFERENCE_POOLS, name, lambda said: parent_condition(said, type_) == (status, reason)
        )

    # --- traffic -------------------------------------------------------------------------------

    def listens(self, gateway_port: int = 80) -> bool:
        """Whether that port of a Gateway is listened on already."""
        return self.controller.ports.port_of(Place(ADDRESSES[0], gateway_port)) is not None

    def port(self, gateway_port: int = 80, address: str = ADDRESSES[0]) -> int:
        """Where that port of a Gateway is really listened on."""
        port = self.controller.ports.port_of(Place(address, gateway_port))
        assert port is not None, "nobody listens there"
        return port

    async def ask(
        self,
        path: str = "/",
        *,
        host: str = "a.example.com",
        body: bytes | None = None,
        fields: Mapping[str, str] | None = None,
        gateway_port: int = 80,
    ) -> bytes:
        """One request to a Gateway, the whole response."""
        more = "".join(f"{name}: {value}\r\n" for name, value in (fields or {}).items())
        if body is None:
            data = f"GET {path} HTTP/1.1\r\nhost: {host}\r\n{more}\r\n".encode()
        else:
            data = (
                f"POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {len(body)}\r\n"
                f"content-type: application/json\r\n{more}\r\n"
            ).encode() + body
        return await send(self.port(gateway_port), data)

    async def answers(self, status: int, path: str = "/", **options: Any) -> bytes:
        """Wait until a request is answered with that status; its response."""
        last: list[bytes] = []

        async def fits() -> bool:
            if not self.listens():
                return False
            last[:] = [await self.ask(path, **options)]
            return last[0].startswith(b"HTTP/1.1 %d" % status)

        try:
            await eventually(fits)
        except TimeoutError:
            raise AssertionError(f"{path} stays {last[0][:300]!r}") from None
        return last[0]


def listener(name: str = "http", port: int = 80, protocol: str = "HTTP", **more: Any) -> Object:
    return {"name": name, "port": port, "protocol": protocol, **more}


def backend(name: str, port: int | None = None, **more: Any) -> Object:
    ref: Object = {"name": name, **more}
    if port is not None:
        ref["port"] = port
    return ref


def pool_ref(name: str, **more: Any) -> Object:
    return {"group": INFERENCE_POOLS.group, "kind": "InferencePool", "name": name, **more}


def path_rule(prefix: str, *backends: Object, **more: Any) -> Object:
    match = {"path": {"type": "PathPrefix", "value": prefix}}
    return {"matches": [match], "backendRefs": list(backends), **more}


def condition(status: Object, type_: str) -> tuple[str, str] | None:
    """Status and reason of a condition."""
    for one in status.get("conditions") or ():
        if one["type"] == type_:
            return one["status"], one["reason"]
    return None


def parent_condition(status: Object, type_: str) -> tuple[str, str] | None:
    """The same for the first parent."""
    parents = status.get("parents") or ()
    return condition(parents[0], type_) if parents else None


@asynccontextmanager
async def gateway_stage(
    cluster: Cluster,
    *,
    all_namespaces: bool = False,
    pickers: PickerSettings | None = None,
    own_pickers: Sequence[str] = (),
    **proxy: float,
) -> AsyncIterator[Stage]:
    """A GatewayClass of ours in the cluster, and a controller for it."""
    name = f"inferway.dev/{cluster.namespace}"
    telemetry = Telemetry()
    records: list[RequestRecord] = []
    settings = Settings(probes=ProbeSettings(interval=0.05, models_interval=0.2))

    def new_context() -> ProxyContext:
        return ProxyContext(
            brains=Brains(),
            pools=Pools(PoolSettings(connect_timeout=1.0)),
            telemetry=telemetry,
            settings=msgspec.structs.replace(ProxySettings(), **proxy),
            log_request=records.append,
        )

    def new_pool(pool: str) -> Pool:
        return Pool(
            pool,
            settings,
            clock=new_context().now,
            changed=lambda: None,
            requests=telemetry.requests_of,
        )

    await cluster.objects.create(
        GATEWAY_CLASSES,
        {"metadata": {"name": cluster.namespace}, "spec": {"controllerName": name}},
    )
    pools = OwnPools(new_pool, lambda _: None)
    grpc_pickers = GrpcPickers(pickers or PickerSettings())
    # Ports that tests ask for are any free ones: what a Gateway says stays what clients know.
    ports = ListeningPorts(new_context, dict.fromkeys((80, 81, 443, 8080), 0), grace=1.0)
    controller = GatewayController(
        cluster.connection,
        GatewayRules(controller=name, addresses=ADDRESSES, own_pickers=frozenset(own_pickers)),
        ports,
        pools,
        grpc_pickers,
        namespaces=() if all_namespaces else (cluster.namespace,),
        cache_settings=QUICK,
    )
    await controller.follow_pods()  # these pools' keeper has no discovery of its own
    await controller.start()
    try:
        yield Stage(cluster, controller, cluster.namespace, name, records)
    finally:
        await controller.stop()
        await ports.stop()
        await pools.stop()
        await grpc_pickers.stop()
        await cluster.objects.delete(GATEWAY_CLASSES, cluster.namespace)
    assert telemetry.in_flight == 0
