"""The exact view against a model too simple to be wrong: a counter of copies an endpoint."""

from array import array
from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from routing.prefix.residency import Held, Residency, Tier
from routing.prefix.tokens import blocks_of
from routing.request import Chain

ENDPOINTS = st.sampled_from(["a", "b", "c", "d", "e"])
TIERS = st.sampled_from(Tier)
# Prompts of few letters share prefixes of all lengths.
PROMPTS = st.lists(st.integers(0, 1), max_size=12)
SIZES = {"a": 1, "b": 1, "c": 1, "d": 2, "e": 2}


def chain_of(prompt: list[int], size: int) -> Chain:
    return blocks_of(b"salt", prompt, size)


class View(RuleBasedStateMachine):
    """Every report goes to the view and to the model; they must say the same."""

    @initialize()
    def begin(self) -> None:
        self.view = Residency(1 << 24)
        self.held: dict[tuple[str, Tier], Counter[int]] = {}
        self.covered: set[str] = set()

    def copies(self, endpoint: str, tier: Tier) -> "Counter[int]":
        return self.held.setdefault((endpoint, tier), Counter())

    @rule(endpoint=ENDPOINTS, tier=TIERS, prompt=PROMPTS, start=st.integers(0, 6))
    def store(self, endpoint: str, tier: Tier, prompt: list[int], start: int) -> None:
        blocks = list(chain_of(prompt, SIZES[endpoint]))[start:]
        assert self.view.stored(endpoint, SIZES[endpoint], blocks, tier) == len(blocks)
        self.copies(endpoint, tier).update(blocks)
        self.covered.add(endpoint)

    @rule(endpoint=ENDPOINTS, tier=TIERS, blocks=st.lists(st.integers(0, 3), max_size=6))
    def store_in_any_order(self, endpoint: str, tier: Tier, blocks: list[int]) -> None:
        self.view.stored(endpoint, SIZES[endpoint], blocks, tier)
        self.copies(endpoint, tier).update(blocks)
        self.covered.add(endpoint)

    @rule(endpoint=ENDPOINTS, tier=TIERS, prompt=PROMPTS, start=st.integers(0, 6))
    def remove(self, endpoint: str, tier: Tier, prompt: list[int], start: int) -> None:
        blocks = list(chain_of(prompt, SIZES[endpoint]))[start:]
        self.view.removed(endpoint, blocks, tier)
        copies = self.copies(endpoint, tier)
        copies.subtract([block for block in blocks if copies[block] > 0])
        self.covered.add(endpoint)

    @rule(endpoint=ENDPOINTS)
    def clear(self, endpoint: str) -> None:
        self.view.cleared(endpoint)
        self.drop(endpoint)
        self.covered.add(endpoint)

    @rule(endpoint=ENDPOINTS)
    def forget(self, endpoint: str) -> None:
        self.view.forget(endpoint)
        self.drop(endpoint)
        self.covered.discard(endpoint)

    def drop(self, endpoint: str) -> None:
        for tier in Tier:
            self.held.pop((endpoint, tier), None)

    @rule(most=st.integers(0, 5))
    def sweep(self, most: int) -> None:
        assert self.view.sweep(most) <= most

    @rule(prompt=PROMPTS)
    def look(self, prompt: list[int]) -> None:
        chains = {size: chain_of(prompt, size) for size in (1, 2)}
        expected: dict[str, Held] = {}
        for endpoint, size in SIZES.items():
            near = self.run(endpoint, chains[size], [Tier.GPU])
            far = self.run(endpoint, chains[size], list(Tier))
            if far:
                expected[endpoint] = Held(near * size, far * size)
        assert self.view.look(chains) == expected

    def run(self, endpoint: str, chain: Chain, tiers: list[Tier]) -> int:
        blocks = 0
        for block in chain:
            if not any(self.copies(endpoint, tier)[block] > 0 for tier in tiers):
                break
            blocks += 1
        return blocks

    @invariant()
    def counts_agree(self) -> None:
        for endpoint in SIZES:
            assert self.view.covers(endpoint) == (endpoint in self.covered)
            for tier in Tier:
                held = sum(count > 0 for count in self.copies(endpoint, tier).values())
                assert self.view.blocks_in(endpoint, tier) == held

    @invariant()
    def tables_agree(self) -> None:
        """What the weights are computed from is what is there."""
        view = self.view
        slots = [*view._slots.values(), *view._retired]
        for tier, table in zip(Tier, view._tables, strict=True):
            expected: dict[int, int] = {}
            for slot in slots:
                for block in slot.held[tier]:
                    expected[block] = expected.get(block, 0) | slot.bit
            assert table == expected
        assert view._holdings == sum(slot.blocks for slot in slots)
        several = sum(mask.bit_count() > 1 for table in view._tables for mask in table.values())
        assert view._several == several
        taken = {slot.index for slot in slots}
        assert taken.isdisjoint(view._free)
        assert len(taken) + len(view._free) == len(view._bits)


class Bounded(RuleBasedStateMachine):
    """Whatever is reported, the budget holds, and what is kept is true."""

    @initialize()
    def begin(self) -> None:
        self.view = Residency(20_000, feeder_bytes=100)
        for endpoint in SIZES:
            self.view.follow(endpoint)
        self.reported: dict[str, Counter[int]] = {}

    @rule(endpoint=ENDPOINTS, start=st.integers(0, 200), count=st.integers(0, 60))
    def store(self, endpoint: str, start: int, count: int) -> None:
        blocks = list(range(start, start + count))
        dropped = self.view.dropped
        kept = self.view.stored(endpoint, 16, blocks, Tier.GPU)
        self.reported.setdefault(endpoint, Counter()).update(blocks[:kept])
        assert self.view.dropped - dropped == count - kept
        if kept < count:
            assert self.view.incomplete(endpoint)

    @rule(endpoint=ENDPOINTS, start=st.integers(0, 200), count=st.integers(0, 60))
    def remove(self, endpoint: str, start: int, count: int) -> None:
        blocks = list(range(start, start + count))
        self.view.removed(endpoint, blocks, Tier.GPU)
        copies = self.reported.setdefault(endpoint, Counter())
        copies.subtract([block for block in blocks if copies[block] > 0])

    @rule(endpoint=ENDPOINTS)
    def clear(self, endpoint: str) -> None:
        self.view.cleared(endpoint)
        self.reported.pop(endpoint, None)

    @invariant()
    def within_budget(self) -> None:
        assert self.view.bytes_used <= self.view.byte_budget
        for endpoint, copies in self.reported.items():
            held = [block for block, count in copies.items() if count > 0]
            assert self.view.blocks(endpoint) == len(held)
            for block in held:
                assert endpoint in self.view.look({16: array("Q", [block])})


TestView = View.TestCase
TestView.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestBounded = Bounded.TestCase
TestBounded.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
