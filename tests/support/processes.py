"""The real processes that acceptance tests are about."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

INFERWAY = str(Path(sys.executable).with_name("inferway"))


@dataclass
class Served:
    """A running `inferway serve`."""

    process: subprocess.Popen[str]
    url: str
    admin: str

    def get(self, path: str) -> str:
        """A page of the admin server."""
        with urllib.request.urlopen(self.admin + path, timeout=5) as page:
            return str(page.read().decode())


@contextmanager
def serving(*arguments: str) -> Iterator[Served]:
    """`inferway serve` on free ports until the block ends; it must end cleanly."""
    process = subprocess.Popen(
        [INFERWAY, "serve", "--port", "0", "--admin-port", "0", *arguments],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert process.stderr is not None
    try:
        lines = []
        for line in process.stderr:
            lines.append(line)
            if "serving clients on" in line:
                words = [word.rstrip(",") for word in line.split() if word.startswith("http")]
                break
        else:
            pytest.fail("it never served: " + "".join(lines))
        yield Served(process, words[0], words[1])
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=15) == 0
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


class SimulatedServer:
    """One simulated model server as a process that can be killed and come back."""

    def __init__(self, *arguments: str) -> None:
        self._arguments = arguments
        self.port = 0

    @property
    def url(self) -> str:
        """Where it listens; the same after each start."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait until it listens."""
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "bench.fleet", "--json-ready"),
                *("--port", str(self.port), *self._arguments),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        url = json.loads(self._process.stdout.readline())["urls"][0]
        self.port = int(url.rsplit(":", 1)[1])

    def kill(self) -> None:
        """kill -9."""
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


@contextmanager
def simulated(*arguments: str) -> Iterator[SimulatedServer]:
    """A simulated server while the block runs."""
    server = SimulatedServer(*arguments)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command to its end."""
    return subprocess.run(
        [INFERWAY, *arguments],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
    )
