"""What operators ask of `inferway capacity`: is it ready, who leads, what was placed."""

from collections.abc import Iterator, Mapping

import msgspec
from aiohttp import web
from prometheus_client import ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from endpoints.allocation.controller.service import CapacityController
from endpoints.kubernetes.leading.leader import Leader
from endpoints.kubernetes.leading.reign import Reigns
from gateway.admin.exposition import CONTENT_TYPE, render

_COUNTS = ("wanted", "feasible", "afterPreemption", "placed", "ready")


class Post:
    """What this process is now: it leads with a controller, or follows without one.

    ``reigns`` None: it runs alone, with the controller that ``alone`` gives.
    """

    def __init__(
        self,
        reigns: Reigns[CapacityController] | None,
        leader: Leader | None,
        alone: CapacityController | None = None,
    ) -> None:
        self._reigns = reigns
        self._leader = leader
        self._alone = alone

    @property
    def controller(self) -> CapacityController | None:
        """The one that plans here; None: we follow."""
        return self._alone if self._reigns is None else self._reigns.running

    @property
    def leads(self) -> bool:
        """Whether this one may write."""
        return self._leader is None or self._leader.leads()

    @property
    def transitions(self) -> int:
        """How often the lease changed hands."""
        return 0 if self._leader is None else self._leader.election.transitions

    def trouble(self) -> str:
        """Why it is not ready; empty: it is.

        A follower is once it knows who leads; who leads is once it has looked at everything.
        """
        if self._leader is not None and not self._leader.answered:
            return self._leader.trouble or "it is not known yet who leads"
        controller = self.controller
        if controller is not None and not controller.passes:
            return "not everything that it follows was listed yet"
        if self.leads and controller is None:
            return "it leads, and has not begun yet"
        return ""

    def told(self) -> Mapping[str, object]:
        """For people."""
        trouble, leader = self.trouble(), self._leader
        return {
            "ready": not trouble,
            "reason": trouble,
            "leads": self.leads,
            "leader": "" if leader is None else leader.election.holder,
            "identity": "" if leader is None else leader.election.identity,
        }


class CapacityMetrics(Collector):
    """Who leads, and the figures of every InferenceCapacity as its status has them."""

    def __init__(self, post: Post) -> None:
        self._post = post

    def collect(self) -> Iterator[Metric]:
        """The families. Only who leads has figures of capacities."""
        post = self._post
        yield GaugeMetricFamily(
            "inferway_capacity_leader", "1 where the one is that plans.", float(post.leads)
        )
        yield CounterMetricFamily(
            "inferway_capacity_lease_transitions",
            "How often the lease got another holder, as last seen.",
            float(post.transitions),
        )
        controller = post.controller
        if controller is None:
            return
        yield CounterMetricFamily(
            "inferway_capacity_passes",
            "Looks at everything since this one leads.",
            float(controller.passes),
        )
        yield GaugeMetricFamily(
            "inferway_capacity_reservations",
            "Plans whose claims don't show yet.",
            float(len(controller.ledger)),
        )
        yield from self._pools(controller)

    @staticmethod
    def _pools(controller: CapacityController) -> Iterator[Metric]:
        replicas = GaugeMetricFamily(
            "inferway_capacity_replicas",
            "Replicas of a capacity, as its status counts them.",
            labels=("namespace", "name", "state"),
        )
        conditions = GaugeMetricFamily(
            "inferway_capacity_condition",
            "1 while the condition is True.",
            labels=("namespace", "name", "condition"),
        )
        for pool in list(controller.pools.values()):
            status = pool.status or {}
            where = (pool.namespace, pool.name)
            for count in _COUNTS:
                if count in status:
                    replicas.add_metric((*where, count), status[count])
            for one in status.get("conditions") or ():
                conditions.add_metric((*where, one["type"]), float(one["status"] == "True"))
        yield replicas
        yield conditions


def make_pages(post: Post) -> web.Application:
    """``/metrics``, ``/healthz`` and ``/readyz``."""
    process = ProcessCollector(registry=None)

    async def metrics(_request: web.Request) -> web.Response:
        page = await render((CapacityMetrics(post), process))
        return web.Response(body=page, headers={"Content-Type": CONTENT_TYPE})

    async def healthz(_request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_request: web.Request) -> web.Response:
        told = post.told()
        body = msgspec.json.encode(told) + b"\n"
        return web.Response(
            body=body, content_type="application/json", status=200 if told["ready"] else 503
        )

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    return app
