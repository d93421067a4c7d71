"""KEDA's external scaler: our numbers over gRPC, and a push the moment a pool is needed.

A ScaledObject's trigger names what it wants in its metadata::

    triggers:
      - type: external-push
        metadata:
          scalerAddress: inferway.inference.svc:9004
          pool: default            # the pool's name
          role: both               # both, prefill or decode
          metric: inferway_desired_replicas    # optional, as is its target for one replica:
          target: "1"

With the metric as it is, KEDA's HPA does what we would; KEDA itself takes the step between 0 and 1.
"""

import asyncio
import math
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.message import DecodeError

from gateway.h2.limits import Limits
from gateway.rpc.call import Call, Method, Services, unary
from gateway.rpc.health import Health
from gateway.rpc.reflection import Reflection
from gateway.rpc.server import RpcServer
from gateway.rpc.status import Code, RpcError
from gateway.scalers import kedaschema as schema
from gateway.scalers.numbers import DESIRED, METRICS, Numbers

_LOOK_SECONDS: Final = 0.25
_LONGEST: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class _Wish:
    """What a trigger asks for."""

    pool: str
    role: str
    metric: str
    target: float

    @property
    def name(self) -> str:
        """What KEDA calls the metric."""
        return f"{self.metric}-{self.pool}-{self.role}".replace("/", "-")


class KedaScaler:
    """The service's methods."""

    def __init__(self, numbers: Numbers) -> None:
        self._numbers = numbers

    def methods(self) -> dict[str, Method]:
        """By path. ``StreamMetricSpec`` is left out, as KEDA allows."""
        path = f"/{schema.SERVICE}/"
        return {
            f"{path}IsActive": unary(self.is_active),
            f"{path}StreamIsActive": self._stream,
            f"{path}GetMetricSpec": unary(self.metric_spec),
            f"{path}GetMetrics": unary(self.metrics),
        }

    def is_active(self, question: bytes) -> bytes:
        """Whether the pool should have any replica."""
        return _encoded(schema.IsActiveResponse(result=self.active(self.wish_of(question))))

    def metric_spec(self, question: bytes) -> bytes:
        """The metric, and how much of it one replica is for."""
        wish = self.wish_of(question)
        answer = schema.GetMetricSpecResponse()
        answer.metricSpecs.add(
            metricName=wish.name,
            targetSize=max(math.ceil(wish.target), 1),
            targetSizeFloat=wish.target,
        )
        return _encoded(answer)

    def metrics(self, question: bytes) -> bytes:
        """The metric's value; UNAVAILABLE when it is not known, so that KEDA's fallback applies."""
        asked = _decoded(schema.GetMetricsRequest, question)
        wish = self._wish(asked.scaledObjectRef)
        value = self._numbers.value(wish.metric, wish.pool, wish.role)
        if value is None:
            raise RpcError(Code.UNAVAILABLE, f"{wish.metric} of {wish.pool!r} is not known now")
        answer = schema.GetMetricsResponse()
        answer.metricValues.add(
            metricName=asked.metricName or wish.name,
            metricValue=math.ceil(value),
            metricValueFloat=value,
        )
        return _encoded(answer)

    def wish_of(self, question: bytes) -> _Wish:
        """What a reference asks for; `RpcError` when it can't be."""
        return self._wish(_decoded(schema.ScaledObjectRef, question))

    def active(self, wish: _Wish) -> bool:
        """`RpcError` UNAVAILABLE while it is not known."""
        active = self._numbers.active(wish.pool)
        if active is None:
            raise RpcError(Code.UNAVAILABLE, f"nothing was decided about {wish.pool!r} lately")
        return active

    def known_active(self, wish: _Wish) -> bool | None:
        """The same; None while it is not known."""
        return self._numbers.active(wish.pool)

    def _wish(self, ref: Any) -> _Wish:  # noqa: ANN401 - a message
        said = dict(ref.scalerMetadata)
        metric = said.get("metric") or DESIRED
        wish = _Wish(
            said.get("pool") or "default", said.get("role") or "both", metric, _target(said)
        )
        if metric not in METRICS:
            known = ", ".join(METRICS)
            raise RpcError(Code.INVALID_ARGUMENT, f"metric {metric!r} is none of {known}")
        if not self._numbers.knows(wish.pool, wish.role):
            raise RpcError(
                Code.NOT_FOUND,
                f"no scaled pool {wish.pool!r} with a role {wish.role!r}: set pool and role in "
                "the trigger's metadata",
            )
        return wish

    def _stream(self, call: Call) -> "_Stream":
        return _Stream(self, call)


class _Stream:
    """One `StreamIsActive`: says at once how it is, and again whenever that changes."""

    def __init__(self, scaler: KedaScaler, call: Call) -> None:
        self._scaler = scaler
        self._call = call
        self._wish: _Wish | None = None
        self._said: bool | None = None
        self._timer: asyncio.TimerHandle | None = None

    def message(self, message: bytes) -> None:
        """The reference."""
        self._wish = self._scaler.wish_of(message)
        self._look()

    def end(self) -> None:
        """KEDA says nothing more, and goes on listening."""

    def over(self) -> None:
        """KEDA went away."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        assert self._wish is not None
        active = self._scaler.known_active(self._wish)
        if active is not None and active is not self._said:
            self._said = active
            self._call.send(_encoded(schema.IsActiveResponse(result=active)))
        if not self._call.is_over:
            self._timer = asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._look)


class KedaServer:
    """The service on a port of its own, with gRPC's health and reflection."""

    def __init__(self, numbers: Numbers, now: Callable[[], float]) -> None:
        methods = KedaScaler(numbers).methods()
        methods.update(Health({"": _yes, schema.SERVICE: _yes}).methods())
        methods.update(Reflection(lambda: services.names).methods())
        services = Services(methods, _LONGEST)
        self._rpc = RpcServer(services, Limits(), now)

    @property
    def port(self) -> int:
        """The port in use, once started."""
        return self._rpc.port

    async def start(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        """Listen. Raises OSError when the address can't be had."""
        await self._rpc.start(host, port, tls)

    async def stop(self) -> None:
        """Close everything now."""
        await self._rpc.stop()


def _yes() -> bool:
    return True


def _target(said: dict[str, str]) -> float:
    text = said.get("target") or "1"
    try:
        target = float(text)
    except ValueError:
        target = math.nan
    if not 0.0 < target < math.inf:
        raise RpcError(Code.INVALID_ARGUMENT, f"target {text!r} is no number above 0")
    return target


def _decoded(kind: Any, message: bytes) -> Any:  # noqa: ANN401 - messages
    try:
        return kind.FromString(message)
    except DecodeError as error:
        raise RpcError(Code.INVALID_ARGUMENT, str(error)) from error


def _encoded(message: Any) -> bytes:  # noqa: ANN401 - a message
    encoded: bytes = message.SerializeToString()
    return encoded
