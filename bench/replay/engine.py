"""An engine in virtual time: continuous batching with chunked prefill, on block ids.

Like vLLM's V1 scheduler, a step gives every decoding sequence one token; what is left of the
token budget goes to prompts, in the order of their admission, and then admits waiting sequences
in the order of their arrival. A prompt's blocks are taken at its admission, so prefill never
starves; an answer's are taken as it grows, and when none is left the sequence that was admitted
last is *preempted*: it gives its blocks back and waits, first in line, to compute again what the
cache lost of them. Blocks can be found as soon as a step is to compute them, so that siblings
share a prefix even within one step.

While nothing but decoding happens, the steps until the next end or the next block that must be
taken are advanced at once: contexts grow by one token a step and sequence, so the time of a step
is linear in its number and that of many is a sum in closed form. A *segment* is one step with
prefill in it, or such a stretch of decoding. Everybody decodes in every step, so what a sequence
has produced is a difference of step counts, and no sequence is touched until something happens
to it.

Pure: no clock, no I/O. The caller owns time: it submits, asks `Engine.wake_at` and completes.
"""

from collections import deque
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from math import inf, log

from bench.fleet.engine.cache import Listener, PrefixCache
from bench.replay.job import Job
from bench.replay.presets import EngineSettings
from bench.replay.segment import Segment

Peers = Callable[[Sequence[int]], int]
"""How many of these blocks, from the first on, can be fetched from other engines."""


class Engine:
    """The queue, the batch and the cache of one engine; ``listener`` hears of the cache."""

    def __init__(
        self,
        settings: EngineSettings,
        block_tokens: int,
        listener: Listener | None = None,
        peers: Peers | None = None,
    ) -> None:
        self.settings = settings
        self.block_tokens = block_tokens
        self.cache = PrefixCache(
            settings.cache_tokens // block_tokens,
            cpu_capacity=settings.cpu_cache_tokens // block_tokens,
            listener=listener,
        )
        self.time_scale = 1.0
        """Everything takes so much longer; holds from the next segment on."""
        self.waiting: deque[Job] = deque()
        self.running: list[Job] = []
        """Admitted and not done, in the order of admission."""
        self.decoding = 0
        self.context_tokens = 0
        """Tokens that the decoding sequences read in the next step."""
        self.waiting_tokens = 0
        """Tokens that waiting sequences have to compute, as the cache was when each came."""
        self.preemptions = 0
        self.gaps: dict[int, int] = {}
        """Times between two tokens of a sequence, as counts by `gap_bucket`."""
        self.held_tokens = 0
        """Prompt tokens whose blocks are pinned for other engines to read."""
        self.segment = Segment(0.0, 0, 0.0, 0.0)
        self.wake_at = inf
        """When the current segment ends and `complete` wants to be called; inf when idle."""
        self._peers = peers if settings.peer_rate > 0.0 else None
        self._prefilling: list[Job] = []
        self._step = 0  # steps completed
        self._admissions = 0
        self._ends: list[tuple[int, int, Job]] = []  # (after step, admission, job)
        self._needs: list[tuple[int, int, Job]] = []  # (block before step, admission, job)
        self._loads_until = 0.0
        self._reset = False
        self._work: list[tuple[Job, int]] = []

    @property
    def prefill_tokens(self) -> int:
        """Prompt tokens still to be computed: of running sequences exactly, of waiting as told."""
        running = sum(job.length - job.computed for job in self._prefilling)
        return running + self.waiting_tokens

    def matched(self, chain: Sequence[int], length: int) -> int:
        """Tokens of a prompt of ``length`` that the cache would save: one must be computed."""
        most = (length - 1) // self.block_tokens
        return self.cache.match(chain[:most]) * self.block_tokens

    def submit(self, job: Job, now: float) -> None:
        """Queue a sequence. Raises ValueError for one that the cache can never hold."""
        if job.prompt_tokens < 1 or job.output_tokens < 1:
            raise ValueError(f"request {job.number}: prompt and output need at least one token")
        needed = self._blocks(job.prompt_tokens + job.output_tokens)
        if needed > self.cache.capacity:
            raise ValueError(
                f"request {job.number} with {job.prompt_tokens} prompt and {job.output_tokens} "
                f"output tokens needs {needed} blocks of {self.block_tokens} tokens; the engine's "
                f"cache_tokens ({self.settings.cache_tokens}) hold {self.cache.capacity}"
            )
        self._expect(job)
        self.waiting.append(job)
        if self.segment.steps == 0:
            self._begin(now)
        elif len(self.waiting) == 1:
            self._cut(now)

    def reset_cache(self, now: float) -> None:
        """Forget everything cached at the end of this step; who runs then computes it again."""
        self._reset = True
        if self.segment.steps == 0:
            self._begin(now)
        else:
            self._cut(now)

    def free(self, job: Job, now: float) -> None:
        """Give back what a finished job held for another engine. Idempotent."""
        if not job.hold:
            return
        job.hold = False
        self.held_tokens -= job.prompt_tokens
        self._give_back(job)
        if self.waiting:  # there is room now
            if self.segment.steps == 0:
                self._begin(now)
            else:
                self._cut(now)

    def produced(self, now: float) -> list[tuple[Job, int]]:
        """Tokens that each decoding sequence has produced by ``now``."""
        step = self._step + self.segment.passed(now)
        return [
            (job, job.generated + step - job.decoding_since)
            for job in self.running
            if job.decoding_since >= 0
        ]

    def complete(self) -> tuple[list[Job], list[Job]]:
        """End the current segment, begin the next; who got its first token, and who is done."""
        now = self.wake_at
        steps = self.segment.steps
        if steps and self.decoding:
            bucket = gap_bucket((now - self.segment.began) / steps)
            self.gaps[bucket] = self.gaps.get(bucket, 0) + steps * self.decoding
        self._step += steps
        self.context_tokens += steps * self.decoding
        first: list[Job] = []
        done: list[Job] = []
        while (end := self._peek(self._ends)) is not None and end[0] <= self._step:
            heappop(self._ends)
            self._end(end[2])
            done.append(end[2])
        for job, tokens in self._work:
            job.computed += tokens
            if job.computed == job.length:
                self._prefilling.remove(job)
                job.generated += 1
                if job.generated == 1:
                    first.append(job)
                if job.generated >= job.output_tokens:
                    self._end(job)
                    done.append(job)
                else:
                    self._decode(job)
        self._begin(now)
        return first, done

    # -- planning --------------------------------------------------------------------------

    def _begin(self, now: float) -> None:
        """Plan the segment that begins now."""
        work: list[tuple[Job, int]] = []
        if self._reset:
            self._reset = False
            while self.running:
                self._preempt()
            self.cache.clear()
        preempted = self._grow()
        budget = self.settings.max_batched_tokens - self.decoding
        loaded_at = inf
        for job in self._prefilling:
            if job.ready_at > now:
                loaded_at = min(loaded_at, job.ready_at)
            elif budget > 0:
                budget -= self._compute(job, budget, work)
        if not preempted:
            while self.waiting and budget > 0 and len(self.running) < self.settings.max_sequences:
                admitted = self._admit(self.waiting[0], now)
                if admitted is None:
                    break
                if admitted.ready_at > now:
                    loaded_at = min(loaded_at, admitted.ready_at)
                else:
                    budget -= self._compute(admitted, budget, work)
        self._work = work
        self._time(now, loaded_at, once=preempted)

    def _time(self, now: float, loaded_at: float, *, once: bool) -> None:
        """Set the segment's length; ``once``: one step, as the next may admit again."""
        timing, scale, count = self.settings.timing, self.time_scale, self.decoding
        seconds = timing.step_base + timing.decode_sequence * count
        seconds += timing.decode_context * self.context_tokens
        for job, tokens in self._work:
            seconds += timing.prefill_token * tokens
            seconds += timing.prefill_context * tokens * (job.computed + tokens / 2)
        if not self._work and not count:
            self.segment = Segment(now, 0, 0.0, 0.0)
            self.wake_at = loaded_at
            return
        steps = 1 if self._work or once else self._undisturbed()
        self.segment = Segment(now, steps, seconds * scale, timing.decode_context * count * scale)
        self.wake_at = self.segment.ends_at
        if loaded_at < inf:
            self._cut(loaded_at)

    def _undisturbed(self) -> int:
        """Steps until a sequence ends or needs a block."""
        end, need = self._peek(self._ends), self._peek(self._needs)
        assert end is not None
        following = end[0] if need is None else min(end[0], need[0])
        return following - self._step

    def _cut(self, now: float) -> None:
        """End the segment with the step that runs at ``now``."""
        self.segment.cut(now)
        self.wake_at = self.segment.ends_at

    # -- sequences -------------------------------------------------------------------------

    def _admit(self, job: Job, now: float) -> Job | None:
        """Find the first waiting one's cached prefix and take all its blocks; None: no room."""
        size = self.block_tokens
        prompt = job.chain[: (job.length - 1) // size]
        hits = self.cache.match(prompt)
        found = prompt[:hits]
        loads = self.cache.to_load(found)
        fresh = self._blocks(job.length) - hits
        if not self.cache.acquire(found, fresh):
            return None
        self.waiting.popleft()
        self.waiting_tokens -= job.expected_tokens
        self.running.append(job)
        self._prefilling.append(job)
        job.admission = self._admissions
        self._admissions += 1
        job.shared, job.private, job.named = list(found), fresh, hits
        seconds = loads * size / self.settings.cpu_load_rate
        fetched = 0
        if self._peers is not None and len(prompt) > hits and job.fetch is None:
            each = size / self.settings.peer_rate
            if each < size * self.settings.timing.prefill_token * self.time_scale:
                fetched = self._peers(prompt[hits:])
                seconds += fetched * each
        job.computed = (hits + fetched) * size
        job.ready_at = now
        if job.fetch is not None:
            fetch, job.fetch = job.fetch, None  # if it is preempted it has to compute all
            there = fetch(max(job.length - 1 - job.computed, 0), now)
            if there is not None:
                job.ready_at = there
                job.computed = job.length - 1
        if seconds > 0.0:
            job.ready_at = self._loads_until = max(now, self._loads_until) + seconds
        if job.cached_tokens is None:
            job.cached_tokens = job.computed
        return job

    def _compute(self, job: Job, budget: int, work: list[tuple[Job, int]]) -> int:
        """Have the next step compute what it can of a prompt, and name the blocks it fills.

        Of a block that has its name already (somebody else computes it, too) ours is a copy.
        """
        tokens = min(job.length - job.computed, budget)
        work.append((job, tokens))
        filled = min((job.computed + tokens) // self.block_tokens, len(job.chain))
        for index in range(job.named, filled):
            block = job.chain[index]
            if self.cache.share(block):
                job.private -= 1
                job.shared.append(block)
        job.named = max(job.named, filled)
        return tokens

    def _decode(self, job: Job) -> None:
        """Its first token is there; from the next step on it decodes."""
        step, length = self._step, job.length
        job.decoding_since = step
        self.decoding += 1
        self.context_tokens += length - 1
        held = len(job.shared) + job.private
        last = step + job.output_tokens - job.generated
        heappush(self._ends, (last, job.admission, job))
        need = step + held * self.block_tokens - length + 1
        if need < last:
            heappush(self._needs, (need, job.admission, job))

    def _grow(self) -> bool:
        """Take the blocks that the next step's tokens need; whether somebody was preempted."""
        preempted = False
        while (need := self._peek(self._needs)) is not None and need[0] <= self._step:
            step, admission, job = heappop(self._needs)
            while not self.cache.acquire((), 1):
                preempted = True
                if self._preempt() is job:
                    break
            else:
                job.private += 1
                heappush(self._needs, (step + self.block_tokens, admission, job))
        return preempted

    def _preempt(self) -> Job:
        """Send the one that was admitted last back to the queue's head."""
        job = self.running.pop()
        if job.decoding_since >= 0:
            self._stop_decoding(job)
        else:
            self._prefilling.remove(job)
        self._give_back(job)
        job.computed = 0
        job.preemptions += 1
        self.preemptions += 1
        self._expect(job)
        self.waiting.appendleft(job)
        return job

    def _end(self, job: Job) -> None:
        self.running.remove(job)
        if job.decoding_since >= 0:
            self._stop_decoding(job)
        if job.hold:
            self.held_tokens += job.prompt_tokens
        else:
            self._give_back(job)

    def _stop_decoding(self, job: Job) -> None:
        produced = self._step - job.decoding_since
        job.generated += produced
        job.decoding_since = -1
        self.decoding -= 1
        self.context_tokens -= job.length - 1

    def _give_back(self, job: Job) -> None:
        self.cache.release(job.shared, job.private)
        job.shared, job.private, job.named = [], 0, 0

    def _expect(self, job: Job) -> None:
        job.expected_tokens = job.length - self.matched(job.chain, job.length)
        if job.fetch is not None:
            job.expected_tokens = 1
        self.waiting_tokens += job.expected_tokens

    def _blocks(self, tokens: int) -> int:
        return -(-tokens // self.block_tokens)

    @staticmethod
    def _peek(heap: list[tuple[int, int, Job]]) -> tuple[int, int, Job] | None:
        """The first entry whose job still decodes since that admission; others are dropped."""
        while heap:
            _, admission, job = heap[0]
            if job.decoding_since >= 0 and job.admission == admission:
                return heap[0]
            heappop(heap)
        return None


def gap_bucket(seconds: float) -> int:
    """The bucket of a time between tokens: one percent wide."""
    return round(100.0 * log(max(seconds, 1e-6)))
