"""Asking a publisher for messages again.

The publisher has a ROUTER socket. We send ``[empty, first number]`` and get, for every message
that it still has from that number on, ``[empty, (topic,) number, payload]``, and at last the number
-1 with an empty payload. A REQ socket would take only the first of the answers, so ours is a
DEALER. Numbers are eight bytes, big-endian. A ROUTER drops without a word what it has no room
for: whoever reads must look at the numbers.
"""

import asyncio
from collections.abc import AsyncGenerator

import zmq
import zmq.asyncio

_END = b"\xff" * 8
NUMBER_BYTES = 8
_QUEUE = 2000


class ReplayError(Exception):
    """The replay did not come to its end; the message says why."""


async def replayed(
    context: zmq.asyncio.Context,
    address: str,
    first: int,
    *,
    idle: float,
    deadline: float,
    max_message_bytes: int,
) -> AsyncGenerator[tuple[int, bytes], None]:
    """The messages from ``first`` on: (number, payload).

    `ReplayError` when nothing comes for ``idle`` seconds, or the end has not come by ``deadline``
    (on the event loop's clock). Close it when not read to the end.
    """
    clock = asyncio.get_running_loop().time
    socket = context.socket(zmq.DEALER)
    try:
        socket.linger = 0
        socket.ipv6 = True
        socket.rcvhwm = _QUEUE
        socket.setsockopt(zmq.MAXMSGSIZE, max_message_bytes)
        socket.connect(address)
        await socket.send_multipart([b"", first.to_bytes(NUMBER_BYTES, "big")])
        while True:
            left = min(idle, deadline - clock())
            if left <= 0 or not await socket.poll(int(left * 1000) + 1):
                raise ReplayError(f"{address}: no (further) answer within {idle:g} s")
            frames = await socket.recv_multipart()
            if len(frames) < 2 or len(frames[-2]) != NUMBER_BYTES:
                raise ReplayError(f"{address}: an answer of {len(frames)} frames is no replay")
            if frames[-2] == _END:
                return
            yield int.from_bytes(frames[-2], "big"), frames[-1]
    except zmq.ZMQError as error:
        raise ReplayError(f"{address}: {error}") from error
    finally:
        socket.close()
