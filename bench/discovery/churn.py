"""The cluster's side: pods of one pool that come, go and change, in a process of its own.

``python -m bench.discovery.churn URL ...`` makes the pool and its pods, says ``ready``, waits for
a line, then changes pods at the given rate and writes every change of an endpoint as a line of
JSON, with the time (CLOCK_MONOTONIC, which all processes share) at which it was asked for.
"""

import argparse
import asyncio
import random
import sys
import time
from dataclasses import dataclass

import msgspec

from bench.discovery.verdict import Change
from endpoints.kubernetes.connection import ClusterSettings, open_connection
from endpoints.kubernetes.objects import Objects
from endpoints.kubernetes.resources import INFERENCE_POOLS, PODS, Object

NAMESPACE = "bench"
POOL = "churning"
_LABELS = {"app": "churning"}
_FIRST_PORT = 8000


@dataclass(slots=True)
class _Pod:
    name: str
    address: str
    ready: bool = True


class Churn:
    """Pods and what is done to them; `write` takes each change of an endpoint."""

    def __init__(self, objects: Objects, pods: int, ports: int, seed: int) -> None:
        self._objects = objects
        self._count = pods
        self._ports = range(_FIRST_PORT, _FIRST_PORT + ports)
        self._dice = random.Random(seed)
        self._pods: list[_Pod] = []
        self._serial = 0
        self.changes: list[Change] = []

    async def prepare(self) -> None:
        """The pool with all its pods, ready."""
        await self._objects.create(
            INFERENCE_POOLS,
            {
                "metadata": {"name": POOL},
                "spec": {
                    "selector": {"matchLabels": _LABELS},
                    "targetPorts": [{"number": port} for port in self._ports],
                },
            },
            NAMESPACE,
        )
        for _ in range(self._count):
            self._pods.append(await self._new())

    async def step(self) -> None:
        """Do something to one pod: replace it, or have it get ready or stop to be."""
        place = self._dice.randrange(len(self._pods))
        pod = self._pods[place]
        what = self._dice.random()
        if what < 0.5:
            await self._end(pod)
            self._pods[place] = await self._new()
        elif what < 0.6:
            await self._end(pod, slowly=True)
            self._pods[place] = await self._new()
        else:
            pod.ready = not pod.ready
            self._note(pod)
            await self._status(pod)

    async def _new(self) -> _Pod:
        self._serial += 1
        address = f"10.{self._serial >> 16 & 255}.{self._serial >> 8 & 255}.{self._serial & 255}"
        pod = _Pod(f"pod-{self._serial}", address)
        item: Object = {
            "metadata": {"name": pod.name, "labels": _LABELS},
            "spec": {"containers": [{"name": "server", "image": "example.com/server:1"}]},
        }
        await self._objects.create(PODS, item, NAMESPACE)
        self._note(pod)
        await self._status(pod)
        return pod

    async def _end(self, pod: _Pod, *, slowly: bool = False) -> None:
        if slowly:  # it is there for a while, terminating and still ready
            hold = {"metadata": {"finalizers": ["inferway.dev/bench"]}}
            await self._objects.merge_patch(PODS, pod.name, hold, NAMESPACE)
        was_ready, pod.ready = pod.ready, False
        if was_ready:
            self._note(pod)
        await self._objects.delete(PODS, pod.name, NAMESPACE, grace_seconds=0)
        if slowly:
            let_go = {"metadata": {"finalizers": None}}
            await self._objects.merge_patch(PODS, pod.name, let_go, NAMESPACE)

    async def _status(self, pod: _Pod) -> None:
        ready = {"type": "Ready", "status": "True" if pod.ready else "False"}
        status = {"phase": "Running", "podIP": pod.address, "conditions": [ready]}
        await self._objects.patch_status(PODS, pod.name, status, NAMESPACE)

    def _note(self, pod: _Pod) -> None:
        now = time.monotonic()
        for port in self._ports:
            url = f"http://{pod.address}:{port}" if pod.ready else None
            self.changes.append(Change(now, f"{NAMESPACE}/{pod.name}:{port}", url))


async def _run(url: str, pods: int, ports: int, rate: float, seconds: float, seed: int) -> None:
    connection = await open_connection(ClusterSettings(url=url))
    churn = Churn(Objects(connection, "bench"), pods, ports, seed)
    await churn.prepare()
    _say(b"ready")
    await asyncio.to_thread(sys.stdin.readline)
    began = time.monotonic()
    steps = 0
    while (elapsed := time.monotonic() - began) < seconds:
        due = int(elapsed * rate)
        if steps < due:
            steps += 1
            await churn.step()
        else:
            await asyncio.sleep((steps + 1) / rate - elapsed)
    _say(msgspec.json.encode({"steps": steps, "seconds": time.monotonic() - began}))
    for change in churn.changes:
        _say(msgspec.json.encode(change))
    await connection.close()


def _say(line: bytes) -> None:
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


def main() -> None:
    """Read the command line and churn."""
    parser = argparse.ArgumentParser(prog="python -m bench.discovery.churn")
    parser.add_argument("url")
    parser.add_argument("--pods", type=int, default=200)
    parser.add_argument("--ports", type=int, default=8)
    parser.add_argument("--rate", type=float, default=20.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    asyncio.run(_run(given.url, given.pods, given.ports, given.rate, given.seconds, given.seed))


if __name__ == "__main__":
    main()
