"""What this gateway sent to one endpoint and is not done yet: exact, immediate, never scraped.

A reservation lives through two stages: *prefill* (its uncached prompt tokens still wait
for or run through the engine) and *decoding* (its first token was seen; tokens are still to
come). One whose prompt is computed elsewhere *awaits* its KV cache instead of a prefill. An
unstreamed request shows no first token; it is taken to decode from the time on at
which its first token was predicted. Counts are whole tokens, so that sums stay exact however
many requests pass.
"""

from collections.abc import Hashable
from math import inf

from routing.marks import Mark


class Reservation:
    """What one request is expected to take, in tokens."""

    __slots__ = (
        "output_tokens",
        "prefill_context",
        "prefill_tokens",
        "prefilled_at",
        "produced",
        "prompt_tokens",
    )

    def __init__(
        self,
        prefill_tokens: int,
        output_tokens: int,
        prompt_tokens: int,
        prefill_context: int,
        prefilled_at: float,
    ) -> None:
        self.prefill_tokens = prefill_tokens
        self.output_tokens = output_tokens
        self.prompt_tokens = prompt_tokens
        self.prefill_context = prefill_context
        self.prefilled_at = prefilled_at
        """From when on it counts as decoding, even if nothing was seen; or inf."""
        self.produced = 0

    @property
    def remaining(self) -> int:
        """Tokens still to be produced."""
        return max(self.output_tokens - self.produced, 0)


class Ledger:
    """Reservations of one endpoint. Every method is O(1) and idempotent.

    A key is whatever identifies an attempt; reports about unknown keys are ignored, since
    they come late by nature. ``mark`` is set after whatever changes a count.
    """

    __slots__ = (
        "_awaiting",
        "_decoding",
        "_earlier_peak",
        "_peak",
        "_prefilling",
        "context_tokens",
        "decoding",
        "mark",
        "oldest",
        "oldest_since",
        "output_tokens",
        "prefill_context",
        "prefill_tokens",
        "produced_tokens",
        "requests",
    )

    def __init__(self) -> None:
        self.requests: int = 0
        """Requests in flight, in either stage."""
        self.decoding: int = 0
        """Sequences that are producing tokens now."""
        self.prefill_tokens: int = 0
        """Uncached prompt tokens whose prefill is not known to be done."""
        self.prefill_context: int = 0
        """The tokens that stand before each of them, summed up: what their attention reads."""
        self.output_tokens: int = 0
        """Tokens still expected from all requests together, prefilling ones included."""
        self.context_tokens: int = 0
        """Prompt and produced tokens of all requests: what they fill the KV cache with, shared
        prefixes counted once for each request."""
        self.produced_tokens: int = 0
        """Tokens that requests in flight have produced so far, as far as it was told."""
        self._prefilling: dict[Hashable, Reservation] = {}  # oldest first
        self._decoding: dict[Hashable, Reservation] = {}
        self._awaiting: dict[Hashable, Reservation] = {}
        self.oldest: Reservation | None = None
        """The oldest prefill."""
        self.oldest_since = 0.0
        """Since when the oldest prefill has the engine for itself."""
        self.mark: Mark | None = None
        self._peak = 0
        self._earlier_peak = 0

    def most_requests(self) -> int:
        """The most requests in flight since the call before the last one.

        What a scrape saw is a moment old: requests that it counted may have ended since.
        """
        most = max(self._peak, self._earlier_peak)
        self._earlier_peak, self._peak = self._peak, self.requests
        return most

    @property
    def oldest_tokens(self) -> int:
        """Tokens of the oldest prefill; 0 without one."""
        return 0 if self.oldest is None else self.oldest.prefill_tokens

    def reserve(
        self,
        key: Hashable,
        prefill_tokens: int,
        output_tokens: int,
        now: float,
        *,
        prefilled_at: float = inf,
        prompt_tokens: int = 0,
        prefill_context: int = 0,
    ) -> None:
        """Add a request: its uncached prompt tokens and the output tokens expected of it.

        ``prefilled_at``: the predicted time of its first token, when none will be seen.
        ``prompt_tokens``: its whole prompt, cached tokens included. ``prefill_context``: for
        each uncached token the tokens before it, summed up.
        """
        if key in self._prefilling or key in self._decoding or key in self._awaiting:
            return
        if prefill_tokens < 0 or output_tokens < 0 or prompt_tokens < 0:
            raise ValueError(
                f"a reservation can't be negative: {prefill_tokens} prefill tokens, "
                f"{output_tokens} output tokens, {prompt_tokens} prompt tokens"
            )
        reservation = Reservation(
            prefill_tokens, output_tokens, prompt_tokens, prefill_context, prefilled_at
        )
        if self.oldest is None:
            self.oldest, self.oldest_since = reservation, now
        self._prefilling[key] = reservation
        self.requests += 1
        self._peak = max(self._peak, self.requests)
        self.prefill_tokens += prefill_tokens
        self.prefill_context += prefill_context
        self.output_tokens += output_tokens
        self.context_tokens += prompt_tokens
        if self.mark is not None:
            self.mark.set()

    def expect(self, key: Hashable, output_tokens: int, prompt_tokens: int) -> None:
        """Add a request whose KV cache another endpoint computes: it has no prefill here."""
        if key in self._prefilling or key in self._decoding or key in self._awaiting:
            return
        if output_tokens < 0 or prompt_tokens < 0:
            raise ValueError(
                f"a reservation can't be negative: {output_tokens} output tokens, "
                f"{prompt_tokens} prompt tokens"
            )
        self._awaiting[key] = Reservation(0, output_tokens, prompt_tokens, 0, inf)
        self.requests += 1
        self._peak = max(self._peak, self.requests)
        self.output_tokens += output_tokens
        self.context_tokens += prompt_tokens
        if self.mark is not None:
            self.mark.set()

    @property
    def awaiting(self) -> int:
        """Requests whose KV cache is still to come from elsewhere."""
        return len(self._awaiting)

    def prefilled(self, key: Hashable, now: float) -> None:
        """The request's first token was seen: its prefill is over, it decodes."""
        reservation = self._end_prefill(key, now)
        if reservation is None and self._awaiting:
            reservation = self._awaiting.pop(key, None)
        if reservation is not None:
            self._decoding[key] = reservation
            self.decoding += 1
            if self.mark is not None:
                self.mark.set()

    def progressed(self, key: Hashable, tokens: int) -> None:
        """The request has produced ``tokens`` tokens so far; fewer than before is ignored."""
        reservation = self._decoding.get(key)
        if reservation is None or tokens <= reservation.produced:
            return
        self.output_tokens -= reservation.remaining
        self.context_tokens += tokens - reservation.produced
        self.produced_tokens += tokens - reservation.produced
        reservation.produced = tokens
        self.output_tokens += reservation.remaining

    def release(self, key: Hashable, now: float) -> None:
        """Forget the request, whatever stage it is in."""
        reservation = self._end_prefill(key, now)
        if reservation is None and self._awaiting:
            reservation = self._awaiting.pop(key, None)
        if reservation is None:
            reservation = self._decoding.pop(key, None)
            if reservation is None:
                return
            self.decoding -= 1
        self.requests -= 1
        self.output_tokens -= reservation.remaining
        self.context_tokens -= reservation.prompt_tokens + reservation.produced
        self.produced_tokens -= reservation.produced
        if self.mark is not None:
            self.mark.set()

    def advance(self, now: float) -> None:
        """Unseen prefills at the head of the queue whose predicted time is over decode now."""
        while (oldest := self.oldest) is not None and oldest.prefilled_at <= now:
            self.prefilled(next(iter(self._prefilling)), oldest.prefilled_at)

    def queued_prefill(self, now: float, slope: float, tilt: float = 0.0) -> tuple[float, float]:
        """Prefill still ahead of a newcomer: tokens, and the tokens before each of them.

        The ledger can't see inside a prefill, so of the oldest one the share is done that the
        time it had the engine for itself is of its own time: ``slope`` seconds a token and
        ``tilt`` for each token before it. The ledger is brought up to ``now`` first (`advance`).
        """
        oldest = self.oldest
        if oldest is not None and oldest.prefilled_at <= now:
            self.advance(now)
            oldest = self.oldest
        if oldest is None:
            return 0.0, 0.0
        tokens, context = oldest.prefill_tokens, oldest.prefill_context
        took, takes = now - self.oldest_since, tokens * slope + context * tilt
        share = 1.0
        if took < takes:
            share = took / takes if took > 0.0 else 0.0
        return self.prefill_tokens - share * tokens, self.prefill_context - share * context

    def queued_prefill_tokens(self, now: float, rate: float) -> float:
        """The tokens of `queued_prefill` at ``rate`` tokens a second, wherever they stand."""
        return self.queued_prefill(now, 1.0 / rate)[0]

    def _end_prefill(self, key: Hashable, now: float) -> Reservation | None:
        reservation = self._prefilling.pop(key, None)
        if reservation is None:
            return None
        self.prefill_tokens -= reservation.prefill_tokens
        self.prefill_context -= reservation.prefill_context
        if reservation is self.oldest:
            self.oldest = next(iter(self._prefilling.values()), None)
            self.oldest_since = max(now, self.oldest_since)
        return reservation
