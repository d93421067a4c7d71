"""Continuous batching with chunked prefill: who computes how much in the next step.

Like vLLM's V1 scheduler: sequences that run go first, each asking for all tokens it has not
computed (one while it decodes); what is left of the step's token budget admits waiting ones in
the order of their arrival. A prompt's blocks are all taken at its admission, so prefill never
starves; an answer's are taken as it grows, and when there is none left the sequence that was
admitted last is *preempted*: it gives its blocks back and waits, first in line, to compute
again what of them the cache lost.

Pure: no clock, no I/O. The caller owns time: it starts a step, lets `Step.seconds` pass,
and completes it.
"""

from collections import deque
from dataclasses import dataclass

from bench.fleet.engine.cache import PrefixCache
from bench.fleet.engine.changes import ChangeLog
from bench.fleet.engine.sequence import Finish, Sequence
from bench.fleet.engine.stats import Stats
from bench.fleet.engine.timing import StepClock
from bench.fleet.settings import ServerSettings


@dataclass(frozen=True, slots=True)
class Step:
    """One step's work: how many tokens of which sequence are computed, and for how long."""

    work: tuple[tuple[Sequence, int], ...]
    seconds: float


class Engine:
    """The waiting queue, the running batch, the cache and the counters of one engine.

    ``changes``, if given, hears of all that becomes cached and of all that is evicted.
    """

    def __init__(self, settings: ServerSettings, changes: ChangeLog | None = None) -> None:
        self.cache = PrefixCache(
            settings.cache_blocks, cpu_capacity=settings.cpu_cache_blocks, listener=changes
        )
        self.stats = Stats(settings.context_length)
        self.clock = StepClock(settings.behaviour, settings.max_num_seqs, settings.private_seed)
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self._settings = settings
        self._changes = changes

    @property
    def busy(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.running or self.waiting)

    def ready_at(self, now: float) -> float:
        """When the next step can start: now, or when the first waiting sequence arrives."""
        return now if self.running or not self.waiting else max(now, self.waiting[0].arrival)

    def submit(self, sequence: Sequence) -> None:
        """Queue a sequence; arrivals must not go back in time."""
        self.waiting.append(sequence)

    def abort(self, sequence: Sequence, now: float) -> None:
        """Forget a sequence and free its blocks at once; a finished one stays as it is."""
        if sequence.finish is not None:
            return
        if sequence in self.running:
            self.running.remove(sequence)
        else:
            self.waiting.remove(sequence)
        self._end(sequence, "abort", now)

    def start(self, now: float) -> Step:
        """Plan the step that begins at ``now``; with nothing to compute its work is empty."""
        work: list[tuple[Sequence, int]] = []
        budget, preempted = self._continue_running(self._settings.max_batched_tokens, work)
        loaded = 0 if preempted else self._admit(budget, now, work)
        return Step(tuple(work), self._duration(work, loaded))

    def complete(self, step: Step, now: float) -> None:
        """Account for a step that ended at ``now`` and tell those that got a token."""
        sampled = 0
        for sequence, tokens in step.work:
            if sequence.finish is not None:
                continue  # aborted while the step ran
            sequence.computed += tokens
            if sequence.remaining == 0:
                sampled += 1
                self._sample(sequence, now)
        self.stats.step_tokens.observe(sum(tokens for _, tokens in step.work))
        if sampled:
            self.running = [sequence for sequence in self.running if sequence.finish is None]

    def _continue_running(self, budget: int, work: list[tuple[Sequence, int]]) -> tuple[int, bool]:
        """Give running sequences their tokens; what is left, and whether one was preempted."""
        preempted = False
        index = 0
        while index < len(self.running) and budget > 0:
            sequence = self.running[index]
            tokens = min(sequence.remaining, budget)
            needed = sequence.blocks_for(sequence.computed + tokens) - sequence.held
            while needed > 0 and not self.cache.acquire((), needed):
                self._preempt(self.running.pop())
                preempted = True
                if index == len(self.running):
                    return budget, preempted  # it was this one
            sequence.private += max(needed, 0)
            self._share_blocks(sequence, tokens)
            work.append((sequence, tokens))
            budget -= tokens
            index += 1
        return budget, preempted

    def _admit(self, budget: int, now: float, work: list[tuple[Sequence, int]]) -> int:
        """Start waiting sequences that have arrived, while slots, tokens and blocks last.

        One whose adapter finds no slot lets others pass; one that finds no blocks doesn't.
        Returns the tokens that are loaded from the CPU's memory for them.
        """
        loaded = 0
        adapters = self.running_adapters()
        passed: list[Sequence] = []
        while self.waiting and budget > 0 and len(self.running) < self._settings.max_num_seqs:
            sequence = self.waiting[0]
            if sequence.arrival > now:
                break
            if sequence.adapter and sequence.model not in adapters:
                if len(adapters) >= self._settings.max_loras:
                    passed.append(self.waiting.popleft())
                    continue
                adapters.add(sequence.model)
            if not self._take_blocks(sequence):
                break
            self.running.append(self.waiting.popleft())
            if sequence.scheduled_at is None:
                sequence.scheduled_at = now
                sequence.cached_tokens = sequence.computed
                self.stats.admitted(sequence, offloading=self.cache.cpu_capacity > 0)
            loaded += sequence.loaded_tokens
            tokens = min(sequence.remaining, budget)
            self._share_blocks(sequence, tokens)
            work.append((sequence, tokens))
            budget -= tokens
        self.waiting.extendleft(reversed(passed))
        return loaded

    def _take_blocks(self, sequence: Sequence) -> bool:
        """Find the cached prefix and take blocks for all the rest, or take nothing."""
        # At least one token must be computed for the next one to be sampled.
        most = (sequence.length - 1) // sequence.block_size
        hits = self.cache.match(sequence.chain[:most])
        found = sequence.chain[:hits]
        loads = self.cache.to_load(found)
        fresh = sequence.blocks_for(sequence.length) - hits
        if not self.cache.acquire(found, fresh):
            return False
        sequence.shared = found
        sequence.private = fresh
        sequence.loaded_tokens = loads * sequence.block_size
        sequence.computed = hits * sequence.block_size
        received = min(sequence.external, sequence.length - 1) - sequence.computed
        sequence.received_tokens = max(received, 0)
        if received > 0:
            self._share_blocks(sequence, received)
            sequence.computed += received
        return True

    def _share_blocks(self, sequence: Sequence, tokens: int) -> None:
        """Name the blocks that this step fills; who is admitted after us may use them already."""
        size = sequence.block_size
        first, end = sequence.computed // size, (sequence.computed + tokens) // size
        if end > len(sequence.chain):
            sequence.extend_chain()
        for index in range(first, end):
            block = sequence.chain[index]
            if self._changes is not None:
                self._changes.describe(sequence, index)
            if self.cache.share(block):
                sequence.private -= 1
                sequence.shared.append(block)

    def _duration(self, work: list[tuple[Sequence, int]], loaded: int) -> float:
        prefill_tokens = decoding = decode_context = 0
        prefill_context = 0.0
        for sequence, tokens in work:
            if sequence.prefilling:
                prefill_tokens += tokens
                prefill_context += tokens * (sequence.computed + tokens / 2)
            else:
                decoding += 1
                decode_context += sequence.computed
        return self.clock.seconds(
            prefill_tokens=prefill_tokens,
            prefill_context=prefill_context,
            decoding=decoding,
            decode_context=decode_context,
            running=len(work),
            loaded_tokens=loaded,
        )

    def _sample(self, sequence: Sequence, now: float) -> None:
        """The sequence's computed tokens give one more, or none when it only pools."""
        if sequence.generated == 0:
            self.stats.prefilled(sequence)
        if sequence.output.length:
            self.stats.token(sequence, now)
            sequence.generated += 1
            sequence.last_token_at = now
            if sequence.first_token_at is None:
                sequence.first_token_at = now
        if sequence.generated >= sequence.output.length:
            self._end(sequence, sequence.output.reason, now)
        else:
            sequence.notify()

    def _end(self, sequence: Sequence, finish: Finish, now: float) -> None:
        sequence.finish = finish
        if sequence.keep is None or finish == "abort":
            self.give_back(sequence)
        else:
            sequence.keep(sequence)
        self.stats.ended(sequence, now)
        sequence.notify()

    def _preempt(self, sequence: Sequence) -> None:
        self.give_back(sequence)
        sequence.computed = sequence.external = 0
        sequence.preemptions += 1
        self.stats.preemptions += 1
        self.waiting.appendleft(sequence)

    def give_back(self, sequence: Sequence) -> None:
        """Free a sequence's blocks."""
        self.cache.release(sequence.shared, sequence.private)
        sequence.shared, sequence.private = [], 0

    def running_adapters(self) -> set[str]:
        """Adapters that running sequences use."""
        return {sequence.model for sequence in self.running if sequence.adapter}

    def waiting_adapters(self) -> set[str]:
        """Adapters that waiting sequences are for."""
        return {sequence.model for sequence in self.waiting if sequence.adapter}
