"""``external.metrics.k8s.io/v1beta1``: our numbers as an aggregated API, for HPAs.

Registered by an APIService (deploy/kubernetes/scaling/external-metrics.yaml). One backend can have
this API in a cluster: where KEDA or an adapter has it already, use KEDA's external scaler instead.

Source: kubernetes-sigs custom-metrics-apiserver; Kubernetes API concepts.
"""

import ssl
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
from aiohttp import web

from endpoints.kubernetes.errors import KubernetesError
from gateway.scalers.frontproxy import GROUP, DeniedError, FrontProxy
from gateway.scalers.numbers import METRICS, Numbers, Sample
from gateway.scalers.selectors import SelectorError, selector

VERSION: Final = "v1beta1"
_GROUP_VERSION: Final = f"{GROUP}/{VERSION}"
_STOP_SECONDS: Final = 1.0


def make_app(numbers: Numbers, proxy: FrontProxy) -> web.Application:
    """The application; it must be served over TLS, whose client certificates it looks at."""
    pages = _Pages(numbers, proxy)
    app = web.Application()
    for path in ("/healthz", "/livez", "/readyz"):
        app.router.add_get(path, pages.health)
    app.router.add_get("/apis", pages.groups)
    app.router.add_get(f"/apis/{GROUP}", pages.group)
    app.router.add_get(f"/apis/{_GROUP_VERSION}", pages.resources)
    app.router.add_get(f"/apis/{_GROUP_VERSION}/namespaces/{{namespace}}/{{metric}}", pages.values)
    return app


class ExternalMetricsServer:
    """The application on a port of its own."""

    def __init__(self, app: web.Application, host: str, port: int, tls: ssl.SSLContext) -> None:
        self._runner = web.AppRunner(
            app, access_log=None, handle_signals=False, shutdown_timeout=_STOP_SECONDS
        )
        self._host, self._tls = host, tls
        self.port = port
        """The port in use, once started."""

    async def start(self) -> None:
        """Listen. Raises OSError when the address can't be had."""
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self.port, ssl_context=self._tls).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Close everything; harmless when it never started."""
        await self._runner.cleanup()


class _Pages:
    def __init__(self, numbers: Numbers, proxy: FrontProxy) -> None:
        self._numbers = numbers
        self._proxy = proxy

    async def health(self, _request: web.Request) -> web.Response:
        """It lives."""
        return web.Response(text="ok")

    async def groups(self, _request: web.Request) -> web.Response:
        """What is served here, as the aggregator asks."""
        return _json({"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group()]})

    async def group(self, _request: web.Request) -> web.Response:
        """The one group's versions."""
        return _json({"kind": "APIGroup", "apiVersion": "v1", **_group()})

    async def resources(self, _request: web.Request) -> web.Response:
        """The metrics there are."""
        listed = [
            {
                "name": metric,
                "singularName": "",
                "namespaced": True,
                "kind": "ExternalMetricValueList",
                "verbs": ["get"],
            }
            for metric in METRICS
        ]
        return _json(
            {
                "kind": "APIResourceList",
                "apiVersion": "v1",
                "groupVersion": _GROUP_VERSION,
                "resources": listed,
            }
        )

    async def values(self, request: web.Request) -> web.Response:
        """A metric's values that the selector selects; none: not known now."""
        namespace, metric = request.match_info["namespace"], request.match_info["metric"]
        try:
            await self._proxy.admit(request, namespace, metric)
            fits = selector(request.query.get("labelSelector", ""))
        except DeniedError as error:
            return _failure(error.status, "Forbidden", str(error))
        except SelectorError as error:
            return _failure(400, "BadRequest", str(error))
        except KubernetesError as error:
            return _failure(503, "ServiceUnavailable", f"who may ask can't be asked: {error}")
        if metric not in METRICS:
            return _failure(404, "NotFound", f"no metric {metric!r}: {', '.join(METRICS)}")
        now = datetime.now(UTC)
        items = [
            _item(metric, sample, now)
            for sample in self._numbers.samples(metric)
            if fits(sample.labels) and _visible(sample, namespace)
        ]
        return _json(
            {
                "kind": "ExternalMetricValueList",
                "apiVersion": _GROUP_VERSION,
                "metadata": {},
                "items": items,
            }
        )


def _visible(sample: Sample, namespace: str) -> bool:
    """Pools of a namespace are only seen in it; those of the configuration, everywhere."""
    owner, slash, _ = sample.labels["pool"].partition("/")
    return not slash or owner == namespace


def _item(metric: str, sample: Sample, now: datetime) -> dict[str, Any]:
    taken = now - timedelta(seconds=sample.age)
    return {
        "metricName": metric,
        "metricLabels": dict(sample.labels),
        "timestamp": taken.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "value": quantity(sample.value),
    }


def quantity(value: float) -> str:
    """A number as Kubernetes writes it: whole, or in thousandths."""
    thousandths = round(value * 1000.0)
    return str(thousandths // 1000) if thousandths % 1000 == 0 else f"{thousandths}m"


def _group() -> dict[str, Any]:
    version = {"groupVersion": _GROUP_VERSION, "version": VERSION}
    return {"name": GROUP, "versions": [version], "preferredVersion": version}


def _failure(status: int, reason: str, message: str) -> web.Response:
    page = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": "Unauthorized" if status == 401 else reason,
        "code": status,
    }
    return _json(page, status)


def _json(page: object, status: int = 200) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(page), status=status, content_type="application/json"
    )
