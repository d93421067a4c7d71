"""Slates for policies: endpoints, what they do and what they hold, said in one line."""

from array import array
from collections.abc import Mapping, Sequence
from random import Random

from routing.fleet import Endpoint, EndpointState, Fleet, Load
from routing.loads import Group, LoadTable
from routing.policies import Choice, Policy, Slate
from routing.prefix.match import Match
from routing.request import Chain, Request

BLOCK = 64.0
"""Tokens in a block."""


def endpoints(size: int, prefix: str = "e") -> list[EndpointState]:
    """Healthy endpoints e0, e1, ..."""
    fleet = Fleet()
    for number in range(size):
        name = f"{prefix}{number}"
        fleet.upsert(Endpoint(name, f"http://{name}", models=("m",)), 0.0)
        fleet.observe_health(name, True, 0.0, "ok")
    return list(fleet)


def chain_of(seed: object, blocks: int, after: "Chain | None" = None) -> Chain:
    """A chain of its own, or one that continues another."""
    random = Random(repr(seed))
    own = array("Q", (random.getrandbits(64) for _ in range(blocks)))
    return own if after is None else after + own


def request_of(*chains: Chain, tokens: float | None = None, name: str = "r") -> Request:
    """A request with these prompts, of whole blocks unless ``tokens`` says otherwise."""
    if tokens is None:
        tokens = sum(len(chain) for chain in chains) * BLOCK
    return Request(name, "m", tuple(chains), tokens, True, streamed=True)


def slate_of(
    states: Sequence[EndpointState],
    request: Request,
    held: Mapping[str, float] | None = None,
    output: int = 256,
) -> Slate:
    """The endpoints as candidates; ``held`` in blocks."""
    table = LoadTable()
    for state in states:
        table.add(state)
    group = Group(states, table)
    return Slate(group, Match(held or {}), BLOCK, request.prompt_tokens, output)


def pick(
    policy: Policy,
    states: Sequence[EndpointState],
    request: Request,
    *,
    held: Mapping[str, float] | None = None,
    now: float = 0.0,
    count: int = 4,
) -> list[Choice]:
    """What the policy ranks."""
    return policy.pick(request, slate_of(states, request, held), now, count)


def names(choices: Sequence[Choice]) -> list[str]:
    """Of the ranked endpoints."""
    return [choice.endpoint.name for choice in choices]


def busy(state: EndpointState, requests: int, tokens: int = 0, prompt: int = 0) -> None:
    """More requests in prefill there, each with so many uncached and prompt tokens."""
    for _ in range(requests):
        state.ledger.reserve(object(), tokens, 100, 0.0, prompt_tokens=prompt)


def scraped(
    state: EndpointState,
    waiting: float | None = None,
    kv_usage: float | None = None,
    running: float | None = None,
) -> None:
    """What the last scrape saw."""
    state.load = Load(at=0.0, running=running, waiting=waiting, kv_usage=kv_usage)
