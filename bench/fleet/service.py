"""One simulated server without its sockets: what the routes ask."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from xxhash import xxh3_64_intdigest

from bench.fleet.engine.changes import ChangeLog
from bench.fleet.engine.driver import Driver
from bench.fleet.engine.output import NOTHING, Limits, Output, echo_output, random_output
from bench.fleet.engine.scheduler import Engine
from bench.fleet.engine.sequence import Sequence as TokenSequence
from bench.fleet.engine.tokens import VOCABULARY_SIZE, Tokens, encode, tokens_of
from bench.fleet.errors import RequestError, bad_request
from bench.fleet.events.publisher import EventPublisher
from bench.fleet.faults import FaultInjector
from bench.fleet.generation import Generation
from bench.fleet.handover.exchange import Arrival, KvExchange
from bench.fleet.handover.fabric import Fabric
from bench.fleet.handover.wishes import HandoverFields
from bench.fleet.metrics import registry_of
from bench.fleet.models import Models
from bench.fleet.settings import Behaviour, EventFaults, Mode, ServerSettings


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt's tokens, and the text that echo mode says back."""

    tokens: Tokens
    echo: Tokens


@dataclass(frozen=True, slots=True)
class Ask:
    """What a request wants generated, whatever its API: ``n`` answers to each prompt."""

    model: str
    prompts: Sequence[Prompt]
    n: int = 1
    max_tokens: int | None = None
    min_tokens: int = 0
    ignore_eos: bool = False
    stop: tuple[str, ...] = ()
    cache_salt: str | None = None
    seed: int = 0
    arrival: Arrival | None = None
    """What came from another server, and what is owed to one; None: it is no split request."""


_STALE = "stale KV "


class Service:
    """The engine, its driver, the models and the faults of one server.

    ``publisher`` is None unless the settings ask for KV-cache events.
    """

    def __init__(self, settings: ServerSettings, fabric: Fabric | None = None) -> None:
        self.settings = settings
        self.behaviour = settings.behaviour
        changes = None if settings.kv_events is None else ChangeLog()
        self.engine = Engine(settings, changes)
        self.publisher: EventPublisher | None = None
        if settings.kv_events is not None and changes is not None:
            self.publisher = EventPublisher(settings.kv_events, settings, changes)
        self.driver = Driver(
            self.engine, None if self.publisher is None else self.publisher.publish
        )
        self.models = Models(settings.model, settings.adapters, settings.context_length)
        self.faults = FaultInjector(settings.behaviour.faults, settings.private_seed)
        self.kv: KvExchange | None = None
        if settings.handover is not None:
            self.kv = KvExchange(
                settings.handover,
                self.engine,
                Fabric() if fabric is None else fabric,
                settings.name or "sim",
                settings.private_seed,
            )
            self.kv.behaviour = settings.behaviour
        self.registry = registry_of(self.engine, self.models, settings, self.kv)
        self._ready_at = 0.0

    async def start(self, address: str) -> None:
        """Run the engine on the running event loop; ready after the start-up time.

        ``address`` is the server's own (host:port). Raises OSError when a port for events is
        taken.
        """
        if self.publisher is not None:
            self.publisher.start(address)
        if self.kv is not None:
            self.kv.start(address)
        self._ready_at = self.driver.now() + self.settings.startup_seconds
        self.driver.start()

    async def stop(self) -> None:
        """Stop the engine at once."""
        await self.driver.stop()
        if self.kv is not None:
            self.kv.stop()
        if self.publisher is not None:
            await self.publisher.stop()

    @property
    def ready(self) -> bool:
        """Whether the model is "loaded", and the engine lives."""
        if self.kv is not None and self.kv.died:
            return False
        return asyncio.get_running_loop().time() >= self._ready_at

    @property
    def load(self) -> int:
        """Requests in flight."""
        return len(self.engine.running) + len(self.engine.waiting)

    def change(self, behaviour: Behaviour) -> None:
        """Behave differently from the next step and the next request on.

        Raises `RequestError` (400), and changes nothing, for faults of events that are not
        published, or a new epoch of them while requests are in flight.
        """
        self._change_events(behaviour.kv_events)
        self.behaviour = behaviour
        if self.kv is not None:
            self.kv.behaviour = behaviour
        self.engine.clock.behaviour = behaviour
        self.faults.faults = behaviour.faults

    def _change_events(self, faults: EventFaults) -> None:
        if faults == self.behaviour.kv_events:
            return
        if self.publisher is None:
            raise bad_request("No events are published: start with --kv-events.", "kv_events")
        if faults.epoch != self.behaviour.kv_events.epoch and not self.engine.cache.clear():
            message = "The epoch can change only while no request is in flight."
            raise bad_request(message, "kv_events.epoch")
        self.publisher.change(faults)

    def reset_prefix_cache(self) -> bool:
        """Forget all that is cached; False, and nothing is forgotten, while requests run."""
        if not self.engine.cache.clear():
            return False
        if self.publisher is not None:
            self.publisher.cleared()
        return True

    async def arrive(
        self, body: HandoverFields, headers: Mapping[str, str], request_id: str
    ) -> Arrival | None:
        """Fetch what a split request is to begin with; None on a server that knows of none.

        Raises `RequestError`.
        """
        if self.kv is None:
            return None
        return await self.kv.arrive(body, headers, request_id)

    async def handed_over(self, ask: Ask, generation: Generation) -> dict[str, Any]:
        """What the answer to a prefill says besides, when its time has come."""
        if self.kv is None or ask.arrival is None:
            return {}
        await self.kv.answered(ask.arrival)
        return {"kv_transfer_params": self.kv.params(ask.arrival, generation.sequences[0])}

    async def attended(self, ask: Ask, generation: Generation) -> None:
        """Hold a streamed answer back until its KV was fetched, where a prefill server does so."""
        arrival = ask.arrival
        if self.kv is None or arrival is None or arrival.give is None or not arrival.give.attends:
            return
        await generation.finished()
        await self.kv.answered(arrival)

    def generate(self, ask: Ask) -> Generation:
        """Start the answers to a request.

        Raises `RequestError`: 400 for a prompt that is too long or too short or has a token that
        can't be, or limits that can't be met; 429 when the waiting queue is full.
        """
        arrival = ask.arrival
        if arrival is not None and arrival.give is not None and arrival.give.attends:
            # A server that only prefills stops after the prompt by itself.
            ask = replace(ask, max_tokens=1, min_tokens=0, n=1)
        if arrival is not None and arrival.stale:
            prompts = [Prompt(prompt.tokens, encode(_STALE)) for prompt in ask.prompts]
            ask = replace(ask, prompts=prompts, seed=ask.seed + 1)
        _check_limits(ask)
        rooms = [self._room(prompt.tokens, 1, ask.max_tokens) for prompt in ask.prompts]
        self._check_queue(len(ask.prompts) * ask.n)
        sequences = []
        for prompt, room in zip(ask.prompts, rooms, strict=True):
            limits = Limits(room, ask.max_tokens, ask.min_tokens, ask.ignore_eos, ask.stop)
            base = xxh3_64_intdigest(prompt.tokens.tobytes(), seed=self.settings.seed)
            sequences += [
                self._sequence(
                    ask.model,
                    prompt.tokens,
                    self._output(limits, prompt, base + ask.seed + choice),
                    ask.cache_salt,
                )
                for choice in range(ask.n)
            ]
        if arrival is not None and self.kv is not None:
            self.kv.attach(arrival, sequences[0])
        generation = Generation(self.driver, sequences, ask.n)
        if arrival is not None and arrival.give is not None and arrival.give.attends:
            generation.abandoned = partial(self._withdraw, arrival.give.key)
        return generation

    def _withdraw(self, key: str) -> None:
        if self.kv is not None:
            self.kv.holds.withdraw(key)

    def pool(self, model: str, prompts: Sequence[Tokens]) -> Generation:
        """Start computing prompts without generating, for embeddings and scores; as `generate`."""
        for prompt in prompts:
            self._room(prompt, 0, None)
        self._check_queue(len(prompts))
        sequences = [self._sequence(model, prompt, NOTHING, None) for prompt in prompts]
        return Generation(self.driver, sequences)

    def _sequence(
        self, model: str, tokens: Tokens, output: Output, cache_salt: str | None
    ) -> TokenSequence:
        return TokenSequence(
            prompt=tokens,
            output=output,
            model=model,
            adapter=model != self.models.base,
            arrival=self.driver.now(),
            block_size=self.settings.block_size,
            cache_salt=cache_salt,
        )

    def _output(self, limits: Limits, prompt: Prompt, seed: int) -> Output:
        if self.settings.mode is Mode.ECHO:
            return echo_output(limits, prompt.echo)
        return random_output(limits, seed)

    def _room(self, tokens: Tokens, least: int, max_tokens: int | None) -> int:
        """What the context has left after a prompt: ``least`` tokens, and ``max_tokens``."""
        if not len(tokens):
            raise bad_request("The prompt is empty.", "prompt")
        context = self.settings.context_length
        room = context - len(tokens)
        if room < least:
            message = (
                f"This model's maximum context length is {context} tokens. However, your request "
                f"has {len(tokens)} input tokens. Please reduce the length of the input messages."
            )
            raise bad_request(message, "input_tokens")
        if max_tokens is not None and max_tokens > room:
            message = (
                f"'max_tokens' or 'max_completion_tokens' is too large: {max_tokens}. This "
                f"model's maximum context length is {context} tokens and your request has "
                f"{len(tokens)} input tokens."
            )
            raise bad_request(message, "max_tokens")
        return room

    def _check_queue(self, coming: int) -> None:
        # vLLM has no limit by default. 429 is what llm-d-inference-sim answers when its queue is
        # full, and it tells a gateway "not here, not now" rather than "broken".
        limit = self.settings.max_waiting
        if limit is None:
            return
        slots = max(self.settings.max_num_seqs - len(self.engine.running), 0)
        if len(self.engine.waiting) + coming > limit + slots:
            self.engine.stats.rejected += 1
            raise RequestError(429, "RateLimitError", "The waiting queue is full.")


def _check_limits(ask: Ask) -> None:
    if ask.n < 1:
        raise bad_request(f"n must be at least 1, got {ask.n}.", "n")
    if ask.max_tokens is not None and ask.max_tokens < 1:
        raise bad_request(f"max_tokens must be at least 1, got {ask.max_tokens}.", "max_tokens")
    if ask.min_tokens < 0 or (ask.max_tokens is not None and ask.min_tokens > ask.max_tokens):
        message = f"min_tokens must be between 0 and max_tokens, got {ask.min_tokens}."
        raise bad_request(message, "min_tokens")
    if ask.ignore_eos and ask.max_tokens is None:
        # An answer would fill the whole context; llm-d-inference-sim refuses it too.
        raise bad_request("ignore_eos needs max_tokens.", "max_tokens")
    if ask.cache_salt == "":
        raise bad_request("cache_salt must be a non-empty string.", "cache_salt")
    if "" in ask.stop:
        raise bad_request("stop cannot contain an empty string.", "stop")


def token_ids(ids: Sequence[int], param: str) -> Tokens:
    """Token ids that a client sent; 400 for one out of the vocabulary."""
    for token in ids:
        if not 0 <= token < VOCABULARY_SIZE:
            raise bad_request(f"Token id {token} is out of vocabulary", param)
    return tokens_of(ids)
