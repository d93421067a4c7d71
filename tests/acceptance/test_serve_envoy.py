"""`inferway serve` as Envoy's endpoint picker: the command, a real Envoy, real signals."""

import asyncio
import json
import re
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.support.envoy import ORIGINAL_DST, Config, cluster_of, running_envoy
from tests.support.processes import INFERWAY

BODY = {"model": "sim-8b", "messages": [{"role": "user", "content": "Count."}], "max_tokens": 8}


class Serving:
    """A running command and where it listens."""

    def __init__(self, process: subprocess.Popen[str], line: str) -> None:
        self.process = process
        self.clients = _port(r"clients on http://[^:]+:(\d+)", line)
        self.envoy = _port(r"Envoy on [^:]+:(\d+)", line)
        self.admin = _port(r"operators on http://[^:]+:(\d+)", line)

    def page(self, path: str) -> str:
        """A page of the admin server."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}{path}", timeout=5) as page:
            return str(page.read().decode())


def _port(pattern: str, line: str) -> int:
    found = re.search(pattern, line)
    return int(found[1]) if found else 0


@contextmanager
def serving(directory: Path, extproc: str) -> Iterator[Serving]:
    """The embedded fleet behind the command, until the block ends; it must end cleanly."""
    config = directory / "inferway.yaml"
    config.write_text(f"listen: {{port: 0}}\nadmin: {{port: 0}}\nextproc: {extproc}\n")
    process = subprocess.Popen(
        [INFERWAY, "serve", "--embedded", "--config", str(config)],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert process.stderr is not None
    try:
        lines = []
        for line in process.stderr:
            lines.append(line)
            if "serving " in line and "operators on" in line:
                break
        else:
            pytest.fail("it never served: " + "".join(lines))
        yield Serving(process, line)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


async def ask(port: int, **fields: object) -> tuple[int, bytes, str]:
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    async with (
        aiohttp.ClientSession() as client,
        client.post(url, json={**BODY, **fields}) as response,
    ):
        served = response.headers.get("x-inferway-endpoint", "")
        return response.status, await response.read(), served


def with_tls(config: Config) -> None:
    """Envoy encrypts towards the picker, and takes any certificate, as the protocol has it."""
    name = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
    cluster_of(config, "inferway")["transport_socket"] = {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": f"type.googleapis.com/{name}",
            "common_tls_context": {"alpn_protocols": ["h2"], "validation_context": {}},
        },
    }


def test_one_brain_behind_the_proxy_and_envoy(tmp_path: Path) -> None:
    async def talk(one: Serving) -> None:
        async with running_envoy(ORIGINAL_DST, tmp_path, picker=one.envoy) as envoy:
            for port in (envoy.port, one.clients, envoy.port, one.clients):
                status, body, served = await ask(port)
                assert status == 200
                assert json.loads(body)["choices"]
                assert served
            status, events, _ = await ask(envoy.port, stream=True)
            assert status == 200
            assert events.rstrip().endswith(b"data: [DONE]")

    with serving(tmp_path, "{port: 0, fallbacks: 0, pool: sims}") as one:
        asyncio.run(talk(one))
        metrics = one.page("/metrics")
        served = re.findall(r"inferway_requests_total{.*status=\"200\"} (\S+)", metrics)
        assert sum(map(float, served)) == 5  # of both
        picked = re.findall(r"inference_objective_request_total{.*} (\S+)", metrics)
        assert sum(map(float, picked)) == 3  # those that came through Envoy
        assert 'inference_pool_ready_pods{name="sims"} 4.0' in metrics
        left = re.findall(r"inferway_endpoint_in_flight_requests{.*} (\S+)", one.page("/metrics"))
        assert left == ["0.0"] * 4


def test_alone_with_tls_and_a_picker_config(tmp_path: Path) -> None:
    picker = tmp_path / "picker.yaml"
    picker.write_text(
        "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\n"
        "plugins: [{type: queue-scorer}, {type: prefix-cache-scorer}]\n"
    )

    async def talk(one: Serving) -> None:
        async with running_envoy(
            ORIGINAL_DST, tmp_path, picker=one.envoy, change=with_tls
        ) as envoy:
            for _ in range(3):
                assert (await ask(envoy.port))[0] == 200

    settings = f"{{port: 0, alone: true, self_signed: true, picker_config: {picker}}}"
    with serving(tmp_path, settings) as one:
        assert one.clients == 0
        asyncio.run(talk(one))
        assert "queue-scorer" in one.page("/debug/decisions")


def test_a_stream_ends_before_the_picker_does(tmp_path: Path) -> None:
    async def talk(one: Serving) -> bytes:
        async with running_envoy(ORIGINAL_DST, tmp_path, picker=one.envoy) as envoy:
            url = f"http://127.0.0.1:{envoy.port}/v1/chat/completions"
            body = {**BODY, "stream": True, "max_tokens": 40, "ignore_eos": True}
            async with (
                aiohttp.ClientSession() as client,
                client.post(url, json=body) as response,
            ):
                first = await response.content.readany()
                one.process.send_signal(signal.SIGTERM)
                return first + await response.content.read()

    with serving(tmp_path, "{port: 0, alone: true, fallbacks: 0}") as one:
        events = asyncio.run(talk(one))
        assert events.rstrip().endswith(b"data: [DONE]")
