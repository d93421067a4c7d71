"""The prefix index against a model too simple to be wrong: a set of prefixes an endpoint."""

from array import array
from collections.abc import Iterator

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from routing.prefix.chain import BLOCK_BYTES, text_chain
from routing.prefix.index import BLOCK_BYTES as HASH_BYTES
from routing.prefix.index import (
    CHILDREN_BYTES,
    HOLDER_BYTES,
    NODE_BYTES,
    PrefixIndex,
)
from routing.prefix.tree import Node
from routing.request import Chain

ENDPOINTS = st.sampled_from(["a", "b", "c", "d"])
# Few letters and runs of them, so that prompts share prefixes of all lengths, long ones too.
PROMPTS = st.lists(
    st.tuples(st.sampled_from("xyz"), st.sampled_from([1, 2, 7, 70])), max_size=5
).map(lambda runs: "".join(letter * length for letter, length in runs))


def chain_of(prompt: str) -> Chain:
    return text_chain(b"salt", b"".join(letter.encode() * BLOCK_BYTES for letter in prompt))


def nodes_of(index: PrefixIndex) -> Iterator[Node]:
    stack = [index._root]
    while stack:
        node = stack.pop()
        children = list((node.children or {}).values())
        stack.extend(children)
        yield from children


def recount(index: PrefixIndex) -> tuple[int, int, dict[str, int]]:
    """Bytes, distinct blocks and blocks a holder key, from the tree alone."""
    used = blocks = 0
    held: dict[str, int] = {}
    for node in nodes_of(index):
        blocks += len(node.run)
        used += NODE_BYTES + HASH_BYTES * len(node.run) + HOLDER_BYTES * len(node.holders)
        used += CHILDREN_BYTES if node.children else 0
        for key in node.holders:
            held[key] = held.get(key, 0) + len(node.run)
    return used, blocks, held


def check_structure(index: PrefixIndex) -> None:
    """What the index relies on: holders only get fewer downwards, counts and orders are true."""
    seen = set()
    for node in nodes_of(index):
        seen.add(node)
        children = list((node.children or {}).values())
        assert node.run
        assert node.holders
        assert node.children is None or children
        for first, child in (node.children or {}).items():
            assert child.run[0] == first
            assert child.parent is node
            assert child.holders.keys() <= node.holders.keys()
        for key, count in node.holders.items():
            assert count == sum(key in child.holders for child in children)
            assert node in index._by_key[key].nodes
    assert seen == index._recent.keys()
    used, blocks, held = recount(index)
    assert index.bytes_used == used
    assert len(index) == blocks
    for key, holder in index._by_key.items():
        assert holder.blocks == held.get(key, 0) == sum(len(node.run) for node in holder.nodes)


class Exact(RuleBasedStateMachine):
    """Without limits the index is exact."""

    def __init__(self) -> None:
        super().__init__()
        self.index = PrefixIndex(1 << 40)
        self.model: dict[str, set[str]] = {}

    def expected(self, prompt: str) -> dict[str, int]:
        depth = {
            endpoint: max((n for n in range(len(prompt) + 1) if prompt[:n] in held), default=0)
            for endpoint, held in self.model.items()
        }
        return {endpoint: blocks for endpoint, blocks in depth.items() if blocks}

    @rule(endpoint=ENDPOINTS, prompt=PROMPTS)
    def stored(self, endpoint: str, prompt: str) -> None:
        self.index.stored(endpoint, chain_of(prompt))
        held = self.model.setdefault(endpoint, set())
        held.update(prompt[:n] for n in range(1, len(prompt) + 1))

    @rule(endpoint=ENDPOINTS, prompt=PROMPTS, keep=st.integers(0, 80))
    def removed(self, endpoint: str, prompt: str, keep: int) -> None:
        self.index.removed(endpoint, chain_of(prompt), keep)
        if keep < len(prompt):
            lost = prompt[: keep + 1]
            held = self.model.get(endpoint, set())
            self.model[endpoint] = {prefix for prefix in held if not prefix.startswith(lost)}

    @rule(endpoint=ENDPOINTS)
    def cleared(self, endpoint: str) -> None:
        self.index.cleared(endpoint)
        self.model.pop(endpoint, None)

    @rule(endpoint=ENDPOINTS)
    def forget(self, endpoint: str) -> None:
        self.index.forget(endpoint)
        self.model.pop(endpoint, None)

    @rule(nodes=st.integers(0, 5))
    def sweep(self, nodes: int) -> None:
        assert self.index.sweep(nodes) <= nodes

    @rule(prompt=PROMPTS)
    def match(self, prompt: str) -> None:
        assert self.index.match(chain_of(prompt)) == self.expected(prompt)

    @invariant()
    def counts_and_structure(self) -> None:
        check_structure(self.index)
        for endpoint in "abcd":
            assert self.index.blocks(endpoint) == len(self.model.get(endpoint, ()))

    def teardown(self) -> None:
        for prompt in sorted({max(held, key=len) for held in self.model.values() if held}):
            assert self.index.match(chain_of(prompt)) == self.expected(prompt)
        for endpoint in "abcd":
            self.index.forget(endpoint)
        while self.index.sweep(3):
            pass
        assert len(self.index) == self.index.bytes_used == 0
        check_structure(self.index)


class Bounded(RuleBasedStateMachine):
    """Under limits the index never claims what was not stored, and never exceeds a limit."""

    def __init__(self) -> None:
        super().__init__()
        self.index = PrefixIndex(1)
        self.model: dict[str, set[str]] = {}
        self.capacities: dict[str, int] = {}

    @initialize(nodes=st.integers(1, 12))
    def budget(self, nodes: int) -> None:
        self.index = PrefixIndex(nodes * (NODE_BYTES + HOLDER_BYTES + 64 * HASH_BYTES))

    @rule(endpoint=ENDPOINTS, prompt=PROMPTS)
    def stored(self, endpoint: str, prompt: str) -> None:
        self.index.stored(endpoint, chain_of(prompt))
        held = self.model.setdefault(endpoint, set())
        held.update(prompt[:n] for n in range(1, len(prompt) + 1))

    @rule(endpoint=ENDPOINTS, blocks=st.integers(0, 200))
    def capacity(self, endpoint: str, blocks: int) -> None:
        self.index.capacity(endpoint, blocks)
        self.capacities[endpoint] = blocks

    @rule(endpoint=ENDPOINTS)
    def cleared(self, endpoint: str) -> None:
        self.index.cleared(endpoint)
        self.model.pop(endpoint, None)

    @rule(endpoint=ENDPOINTS)
    def forget(self, endpoint: str) -> None:
        self.index.forget(endpoint)
        self.model.pop(endpoint, None)
        self.capacities.pop(endpoint, None)

    @rule(endpoint=ENDPOINTS, prompt=PROMPTS, keep=st.integers(0, 80))
    def removed(self, endpoint: str, prompt: str, keep: int) -> None:
        self.index.removed(endpoint, chain_of(prompt), keep)

    @rule(nodes=st.integers(0, 5))
    def sweep(self, nodes: int) -> None:
        self.index.sweep(nodes)

    @precondition(lambda self: self.model)
    @rule(prompt=PROMPTS)
    def match(self, prompt: str) -> None:
        for endpoint, blocks in self.index.match(chain_of(prompt)).items():
            assert blocks > 0
            assert prompt[:blocks] in self.model[endpoint]

    @invariant()
    def limits(self) -> None:
        check_structure(self.index)
        assert self.index.bytes_used <= self.index.byte_budget
        for endpoint, capacity in self.capacities.items():
            assert self.index.blocks(endpoint) <= capacity


Exact.TestCase.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)
Bounded.TestCase.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)
TestExact = Exact.TestCase
TestBounded = Bounded.TestCase


def test_an_empty_chain_is_held_by_nobody() -> None:
    index = PrefixIndex(1 << 20)
    index.stored("a", array("Q"))
    assert index.match(array("Q")) == {}
    assert index.blocks("a") == 0
