"""How the bench talks to its helper processes: one JSON line asks, one answers.

A helper ends when its standard input does, so it never outlives the bench.
"""

import asyncio
import os
import select
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TypeVar

import msgspec

_Answer = TypeVar("_Answer")


class HelperError(RuntimeError):
    """A helper process ended or did not answer in time."""


async def obey(handle: Callable[[bytes], Awaitable[msgspec.Struct]]) -> None:
    """In a helper: answer each line of standard input until it ends."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    try:
        while line := await reader.readline():
            answer = msgspec.json.encode(await handle(line))
            sys.stdout.buffer.write(answer + b"\n")
            sys.stdout.buffer.flush()
    finally:
        transport.close()


class Helper:
    """In the bench: one helper process, ``python -m module``, while the block runs."""

    def __init__(self, module: str) -> None:
        self._module = module
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._read = b""

    def __enter__(self) -> "Helper":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        process.stdin.close()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()

    def ask(self, question: msgspec.Struct, answer: type[_Answer], timeout: float) -> _Answer:
        """Send a question and wait up to ``timeout`` seconds for its answer; `HelperError`."""
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(msgspec.json.encode(question) + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            raise HelperError(f"{self._module} has ended") from None
        end = time.monotonic() + timeout
        descriptor = process.stdout.fileno()
        while b"\n" not in self._read:
            left = end - time.monotonic()
            if left <= 0 or not select.select([descriptor], [], [], left)[0]:
                raise HelperError(f"{self._module} did not answer in {timeout:g} s")
            got = os.read(descriptor, 1 << 20)
            if not got:
                raise HelperError(f"{self._module} has ended")
            self._read += got
        line, _, self._read = self._read.partition(b"\n")
        return msgspec.json.decode(line, type=answer)
