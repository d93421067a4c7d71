"""Receipts: what was known when a request was routed, kept to be looked at afterwards.

A receipt keeps the decision itself, which has candidates, reasons and times, and beside it what
changes at once: the ledgers of the candidates. Nothing is put into words before somebody asks.

    receipts.routed(decision, now)    # before the decision's load is reserved
    receipts.observe(decision)        # once the request is over; again is harmless

Three places keep them, each bounded: requests in flight; a sample of those that ended; and,
whether sampled or not, those that somebody will ask about: failures, retries and surprises.
Sampling goes by the request id alone and follows the traffic, see `routing.sampling`.
"""

from collections import deque
from collections.abc import Iterable
from typing import Final

from routing.decision import Decision, Phase
from routing.endpoint import SCRAPE_FRESH_SECONDS, EndpointState
from routing.prediction import (
    PredictionErrors,
    estimated_regret,
    observed_itl,
    observed_ttft,
    relative_error,
    surprise,
)
from routing.sampling import LastingSample

SURPRISE: Final = 1.0
"""``ln(observed / predicted)`` from which a time to first token is a surprise: a factor of 2.7."""

MOST_IN_FLIGHT = 65_536
"""Requests in flight that are kept track of; a body that never says when one is over leaks none."""


class Standing:
    """How a candidate stood when the request was routed, before the request's own load."""

    __slots__ = ("decoding", "predicted_itl", "queued_tokens", "requests", "trust")

    def __init__(self, state: EndpointState, prompt_tokens: float, now: float) -> None:
        ledger, timing, load = state.ledger, state.timing, state.load
        queued = 0.0
        if ledger.prefill_tokens:
            queued = ledger.queued_prefill_tokens(now, timing.prefill_rate)
        decoding = float(ledger.decoding)
        if state.foreign_running and load is not None and load.age(now) <= SCRAPE_FRESH_SECONDS:
            decoding += state.foreign_running
        context = ledger.context_tokens + prompt_tokens
        self.requests = ledger.requests
        """Of this gateway, in flight there."""
        self.decoding = decoding
        """Sequences decoding there, those included that a fresh scrape saw of others."""
        self.queued_tokens = queued
        """Uncached prompt tokens of this gateway still to be computed there."""
        self.predicted_itl = timing.inter_token_seconds(decoding + 1.0, context)
        """Seconds between two tokens with this request's sequence among them."""
        self.trust = state.trust.share
        """In what is believed to be in its cache, 0 to 1."""


class Receipt:
    """A decision and what its candidates were like when it was made."""

    __slots__ = ("decision", "over", "standings", "surprise")

    def __init__(
        self, decision: Decision, standings: list[Standing], *, over: bool = False
    ) -> None:
        self.decision = decision
        self.standings = standings
        """Of the candidates, by rank, as far as they were taken down."""
        self.over = over
        """The request ended."""
        self.surprise = 0.0
        """``ln(observed / predicted)`` of its time to first token, see
        `routing.prediction.surprise`; 0 as long as it is in flight."""

    def standing(self, rank: int) -> Standing | None:
        """Of the candidate of that rank; None when it was not taken down."""
        return self.standings[rank] if rank < len(self.standings) else None

    @property
    def predicted_itl(self) -> float | None:
        """Seconds between tokens as expected of the first choice."""
        return self.standings[0].predicted_itl if self.standings else None


class Receipts:
    """The receipts of one router, and what the predictions in them were worth.

    ``capacity``: receipts of ended requests that are kept, and as many again of failures,
    retries and surprises; each takes about 2.5 KB and 8 bytes a prompt block. ``sample``: share
    (0 to 1) of the ended requests that are kept when nothing was remarkable. ``reach``: seconds
    for which those should last; a smaller share is kept where they would not (0: always
    ``sample``). ``surprise_limit``: ``|ln(observed / predicted)|`` of the time to first token above
    which one is remarkable.
    """

    def __init__(
        self,
        capacity: int,
        sample: float = 1.0,
        surprise_limit: float = SURPRISE,
        *,
        reach: float = 10.0,
    ) -> None:
        if capacity < 1:
            raise ValueError(f"capacity is {capacity}: give the receipts to keep, at least 1")
        if not surprise_limit > 0.0:
            raise ValueError(f"surprise_limit is {surprise_limit}: give a number above 0")
        self.capacity = capacity
        self.surprise_limit = surprise_limit
        self.errors = PredictionErrors()
        """Of all endpoints, those that left included."""
        self.by_endpoint: dict[str, PredictionErrors] = {}
        """Of endpoints that were the first choice of a request that ended, by name."""
        self.sample = LastingSample(sample, capacity, reach)
        """Of the requests that ended and were not remarkable."""
        self._in_flight: dict[Decision, Receipt] = {}  # oldest first
        self._sampled: deque[Receipt] = deque(maxlen=capacity)
        self._remarkable: deque[Receipt] = deque(maxlen=capacity)

    # -- what happens ----------------------------------------------------------------------

    def routed(self, decision: Decision, now: float) -> None:
        """A request was routed; to be told before its load is reserved."""
        tokens = decision.prompt_tokens
        standings = [Standing(choice.endpoint, tokens, now) for choice in decision.choices]
        if len(self._in_flight) >= MOST_IN_FLIGHT:
            del self._in_flight[next(iter(self._in_flight))]
        self._in_flight[decision] = Receipt(decision, standings)

    def observe(self, decision: Decision) -> None:
        """The request is over, whatever its end. Ignored when it is not in flight."""
        receipt = self._in_flight.pop(decision, None)
        if receipt is None:
            return
        receipt.over = True
        receipt.surprise = surprise(decision)
        self._compare(receipt)
        if self.remarkable(receipt):
            self._remarkable.append(receipt)
        elif self.sample.take(decision.request.id, decision.at):
            self._sampled.append(receipt)

    def keep_endpoints(self, names: Iterable[str]) -> None:
        """Forget the errors of all endpoints but ``names``; to be told when the fleet changed."""
        kept = set(names)
        self.by_endpoint = {
            name: errors for name, errors in self.by_endpoint.items() if name in kept
        }

    # -- who asks --------------------------------------------------------------------------

    def surprising(self, receipt: Receipt) -> bool:
        """Whether the first token came far from when it was expected."""
        return abs(receipt.surprise) > self.surprise_limit

    def remarkable(self, receipt: Receipt) -> bool:
        """Whether the request failed, was tried more than once, or surprised."""
        decision = receipt.decision
        failed = decision.phase is Phase.FAILED or bool(decision.attempts)
        return failed or self.surprising(receipt)

    def latest(self) -> list[Receipt]:
        """All that are kept, the latest routed first."""
        kept = [*self._remarkable, *self._sampled, *self._in_flight.values()]
        kept.sort(key=_routed_at)
        kept.reverse()
        return kept

    def find(self, request_id: str) -> list[Receipt]:
        """Those of a request id, the latest routed first: clients may use an id again."""
        return [receipt for receipt in self.latest() if receipt.decision.request.id == request_id]

    # -- within ----------------------------------------------------------------------------

    def _compare(self, receipt: Receipt) -> None:
        """Hold what was predicted against what was observed."""
        decision = receipt.decision
        if decision.attempt:
            return
        choice = decision.choices[0]
        name = choice.endpoint.name
        here = self.by_endpoint.get(name)
        if here is None:
            here = self.by_endpoint[name] = PredictionErrors()
        everywhere = self.errors
        ttft = observed_ttft(decision)
        if ttft is not None and choice.predicted_ttft is not None:
            predicted = choice.predicted_ttft
            error = relative_error(predicted, ttft)
            here.ttft.add(predicted - ttft)
            everywhere.ttft.add(predicted - ttft)
            here.ttft_error.add(error)
            everywhere.ttft_error.add(error)
            regret = estimated_regret(decision)
            if regret is not None:
                here.regret.add(regret)
                everywhere.regret.add(regret)
        itl = observed_itl(decision)
        if itl is not None and receipt.standings:
            error = relative_error(receipt.standings[0].predicted_itl, itl)
            here.itl_error.add(error)
            everywhere.itl_error.add(error)
        # Who decodes after a split reports what it has read as cached: that was not predicted.
        if decision.reported_cached_tokens is not None and not decision.split:
            surplus = choice.cached_tokens - decision.reported_cached_tokens
            here.cached_tokens.add(surplus)
            everywhere.cached_tokens.add(surplus)


def _routed_at(receipt: Receipt) -> float:
    return receipt.decision.at
