"""The ledger against a plain list of what is in flight, under any order of reports."""

from dataclasses import dataclass
from math import inf

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from routing.ledger import Ledger

KEYS = st.integers(0, 6)
TOKENS = st.integers(0, 10_000)


@dataclass
class Entry:
    prefill: int
    output: int
    due: float
    produced: int = 0
    decoding: bool = False


class LedgerMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.model: dict[int, Entry] = {}
        self.now = 0.0

    @rule(seconds=st.floats(0, 5))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(key=KEYS, prefill=TOKENS, output=TOKENS, unseen=st.none() | st.floats(0, 5))
    def reserve(self, key: int, prefill: int, output: int, unseen: float | None) -> None:
        due = inf if unseen is None else self.now + unseen
        self.ledger.reserve(key, prefill, output, self.now, prefilled_at=due)
        self.model.setdefault(key, Entry(prefill, output, due))

    @rule(key=KEYS)
    def prefilled(self, key: int) -> None:
        self.ledger.prefilled(key, self.now)
        if key in self.model:
            self.model[key].decoding = True

    @rule(key=KEYS, tokens=TOKENS)
    def progressed(self, key: int, tokens: int) -> None:
        self.ledger.progressed(key, tokens)
        entry = self.model.get(key)
        if entry is not None and entry.decoding:
            entry.produced = max(entry.produced, tokens)

    @rule(key=KEYS)
    def release(self, key: int) -> None:
        self.ledger.release(key, self.now)
        self.model.pop(key, None)

    @invariant()
    def sums_are_true(self) -> None:
        entries = list(self.model.values())
        pending = [entry.prefill for entry in entries if not entry.decoding]
        assert self.ledger.requests == len(entries)
        assert self.ledger.decoding == len(entries) - len(pending)
        assert self.ledger.prefill_tokens == sum(pending)
        assert self.ledger.output_tokens == sum(
            max(entry.output - entry.produced, 0) for entry in entries
        )

    @rule(rate=st.sampled_from([1.0, 8_000.0, 1e9]))
    def ask(self, rate: float) -> None:
        for entry in self.model.values():
            if not entry.decoding and entry.due > self.now:
                break  # what waits behind it waits too
            entry.decoding = True
        pending = [entry.prefill for entry in self.model.values() if not entry.decoding]
        queued = self.ledger.queued_prefill_tokens(self.now, rate)
        assert sum(pending[1:]) <= queued <= sum(pending)

    def teardown(self) -> None:
        for key in list(self.model):
            self.release(key)
        assert self.ledger.requests == self.ledger.decoding == 0
        assert self.ledger.prefill_tokens == self.ledger.output_tokens == 0


LedgerMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestLedger = LedgerMachine.TestCase
