"""Someone who listens to a server's KV-cache events, independent of how we read them elsewhere."""

import asyncio
from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec
import zmq
import zmq.asyncio

Name: TypeAlias = int | bytes

_MEDIA = {"GPU": "GPU", "CPU": "CPU", "CPU_PINNED": "CPU"}
_FIELDS = ("block_hashes", "parent_block_hash", "token_ids", "block_size", "lora_id", "medium")


def events_of(payload: bytes) -> list[dict[str, Any]]:
    """The events of a batch, whatever their encoding, as maps."""
    _, events, rank = msgspec.msgpack.decode(payload)
    assert rank == 0
    return [event if isinstance(event, dict) else _as_map(event) for event in events]


def _as_map(event: list[Any]) -> dict[str, Any]:
    match event:
        case ["BlockStored", *values]:
            fields: tuple[str, ...] = (*_FIELDS, "lora_name", "extra_keys")
        case ["BlockRemoved", *values]:
            fields = ("block_hashes", "medium")
        case _:
            values, fields = [], ()
    return {"type": event[0], **dict(zip(fields, values, strict=False))}


class Picture:
    """What a listener believes a cache to hold, block by block."""

    def __init__(self) -> None:
        self.tiers: dict[str, set[Name]] = {"GPU": set(), "CPU": set()}
        self._names: dict[object, Name] = {}  # parent, tokens and extra keys -> the block's name

    def apply(self, payload: bytes) -> None:
        """Learn from a batch; AssertionError for what can't be."""
        for event in events_of(payload):
            match event["type"]:
                case "BlockStored":
                    self._stored(event)
                case "BlockRemoved":
                    tier = self.tiers[_MEDIA[event["medium"]]]
                    for name in event["block_hashes"]:
                        tier.remove(name)  # KeyError: it was never there
                case "AllBlocksCleared":
                    for tier in self.tiers.values():
                        tier.clear()

    def match(self, tokens: Sequence[int], size: int, *extra: str, salt: str | None = None) -> int:
        """How many leading blocks of a prompt are in any tier."""
        parent: Name | None = None
        count = 0
        for start in range(0, len(tokens) - size + 1, size):
            keys = extra if salt is None or start else (*extra, salt)
            name = self._names.get((parent, tuple(tokens[start : start + size]), keys))
            if name is None or not any(name in tier for tier in self.tiers.values()):
                break
            parent = name
            count += 1
        return count

    def _stored(self, event: dict[str, Any]) -> None:
        names, tokens, size = event["block_hashes"], event["token_ids"], event["block_size"]
        tier = self.tiers[_MEDIA[event["medium"]]]
        extra_keys = event.get("extra_keys") or [None] * len(names)
        if tokens:
            assert len(tokens) == size * len(names)
            parent = event["parent_block_hash"]
            for index, name in enumerate(names):
                block = tuple(tokens[index * size : (index + 1) * size])
                content = (parent, block, tuple(extra_keys[index] or ()))
                assert self._names.setdefault(content, name) == name
                parent = name
        else:  # only named: it is known from another tier
            assert all(any(name in other for other in self.tiers.values()) for name in names)
        assert not tier.intersection(names), "stored where it was already"
        tier.update(names)


class Subscriber:
    """Sockets at a publisher; closed when its context ends."""

    def __init__(self, endpoint: str, replay_endpoint: str | None = None, topic: str = "") -> None:
        self._context: zmq.Context[Any] = zmq.Context()
        self._live = zmq.asyncio.Socket(self._context, zmq.SUB)
        self._live.setsockopt(zmq.RCVHWM, 0)
        self._live.subscribe(topic)
        self._live.connect(endpoint)
        self._replay = zmq.asyncio.Socket(self._context, zmq.DEALER)
        if replay_endpoint is not None:
            self._replay.connect(replay_endpoint)

    async def __aenter__(self) -> "Subscriber":
        return self

    async def __aexit__(self, *_: object) -> None:
        self._live.close(linger=0)
        self._replay.close(linger=0)
        self._context.term()

    async def receive(self) -> tuple[str, int, bytes]:
        """The next live message: topic, sequence and payload."""
        async with asyncio.timeout(5):
            topic, number, payload = await self._live.recv_multipart()
        assert len(number) == 8
        return topic.decode(), int.from_bytes(number, "big"), payload

    async def quiet(self, seconds: float) -> bool:
        """Whether nothing comes for so long."""
        return not await self._live.poll(int(seconds * 1000))

    async def ask(self, *frames: bytes) -> None:
        """Send something to the replay socket."""
        await self._replay.send_multipart(frames)

    async def answer(self) -> list[bytes]:
        """The replay socket's next message."""
        async with asyncio.timeout(5):
            return await self._replay.recv_multipart()

    async def replay(self, first: int, *, with_topic: bool = True) -> list[tuple[int, bytes]]:
        """All kept batches from ``first`` on."""
        await self.ask(b"", first.to_bytes(8, "big"))
        batches: list[tuple[int, bytes]] = []
        while True:
            empty, *topic, number, payload = await self.answer()
            assert (empty, len(topic)) == (b"", int(with_topic))
            if number == b"\xff" * 8:
                assert (payload, *topic) == ((b"", b"") if with_topic else (b"",))
                return batches
            batches.append((int.from_bytes(number, "big"), payload))
