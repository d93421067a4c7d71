"""Split requests in virtual time: one engine computes the prompt, another one reads it and decodes.

    prefill leg ──► done, KV pinned ──► decode leg admitted ──► transfer ──► KV read and freed
                         └── lease over: dropped; whoever wanted it computes it

As with vLLM's NIXL connector: the legs follow each other, the decode engine takes blocks for the
whole prompt when it admits the request, reads what its own cache lacks, and computes one token.
Each endpoint sends one transfer at a time and receives one at a time, at its full rate.
"""

from collections.abc import Callable

from bench.replay.flight import Flight
from bench.replay.job import Fetch, Job
from bench.replay.servers import Server
from bench.replay.settings import ReplaySettings
from bench.replay.timeline import Timeline


class Network:
    """Transfers between endpoints: each one's sending and receiving sides take turns."""

    def __init__(self, settings: ReplaySettings) -> None:
        self._kv_bytes = settings.kv_bytes
        self._rate = settings.link_rate
        self._latency = settings.link_latency
        self._sending: dict[str, float] = {}
        self._receiving: dict[str, float] = {}

    def move(self, source: str, sink: str, tokens: int, now: float) -> float:
        """Move so many tokens' KV; when it is there."""
        if tokens <= 0:
            return now
        begins = max(now, self._sending.get(source, 0.0), self._receiving.get(sink, 0.0))
        ends = begins + tokens * self._kv_bytes / self._rate
        self._sending[source] = self._receiving[sink] = ends
        return ends + self._latency


class Handover:
    """Carries KV from prefill legs to decode legs. ``wake``: an engine's plans changed."""

    def __init__(
        self, settings: ReplaySettings, timeline: Timeline, wake: Callable[[Server, float], None]
    ) -> None:
        self._lease = settings.kv_lease
        self._network = Network(settings)
        self._timeline = timeline
        self._wake = wake

    def compute(self, flight: Flight, server: Server) -> None:
        """Begin the prefill leg there."""
        arrival = flight.arrival
        flight.prefill_place = server.place
        server.legs[flight.number] = flight
        server.queried_tokens += arrival.prompt_tokens
        before = server.engine.wake_at
        job = Job(flight.number, flight.chain, arrival.prompt_tokens, 1, hold=True)
        server.engine.submit(job, self._timeline.now)
        self._wake(server, before)

    def reader(self, flight: Flight, source: Server, held: Job, sink: Server) -> Fetch:
        """What the decode leg's job calls when it is admitted; until then the lease runs."""
        engine, now = source.engine, self._timeline.now

        def free() -> None:
            before = engine.wake_at
            engine.free(held, self._timeline.now)
            if source.engine is engine:
                self._wake(source, before)

        def expire() -> None:
            if not read[0]:
                flight.expired = True
                free()

        def fetch(tokens: int, at: float) -> float | None:
            if flight.expired:
                return None
            read[0] = True
            flight.moved_tokens = tokens
            there = self._network.move(source.name, sink.name, tokens, at)
            self._timeline.at(there, free)
            return there

        read = [False]
        self._timeline.at(now + self._lease, expire)
        return fetch
