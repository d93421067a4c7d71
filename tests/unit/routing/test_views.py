from array import array

import pytest

from routing.fleet import Endpoint, Fleet
from routing.loads import Group
from routing.policies import make_policy
from routing.prefix.index import PrefixIndex
from routing.prefix.residency import Residency, Tier
from routing.prefix.views import Views
from routing.request import Chain, Request
from routing.router import Router, RouterSettings

NAMES = ("a", "b", "c")


def blocks(*hashes: int) -> Chain:
    return array("Q", hashes)


def prompt(chain: Chain, tokens: "Chain | None" = None) -> Request:
    """Blocks of 64 tokens for the text, of 16 for the token ids, and a few tokens more."""
    return Request(
        "r",
        "m",
        (chain,),
        64.0 * len(chain) + 8,
        exact_tokens=True,
        streamed=True,
        token_chains=None if tokens is None else {16: tokens},
    )


class Scene:
    def __init__(self) -> None:
        self.fleet = Fleet()
        for name in NAMES:
            self.fleet.upsert(Endpoint(name, f"http://{name}", models=("m",)), 0.0)
            self.fleet.observe_health(name, True, 0.0, "")
        self.residency = Residency(1 << 22)
        self.views = Views(PrefixIndex(1 << 22), self.residency)
        group = self.fleet.candidates("m")
        assert group is not None
        self.group: Group = group

    def held(self, request: Request, now: float = 0.0) -> dict[str, float]:
        match = self.views.look(request, self.group, now, 1.0)
        return {name: match.blocks(name) for name in NAMES if match.blocks(name)}


@pytest.fixture
def scene() -> Scene:
    return Scene()


TEXT = blocks(1, 2, 3, 4)
TOKENS = blocks(*range(100, 116))  # the same 256 tokens in blocks of 16


def test_without_reports_what_was_sent_counts(scene: Scene) -> None:
    scene.views.sent("a", prompt(TEXT), 10_000, 0.0)
    assert scene.held(prompt(TEXT, TOKENS)) == {"a": 4}


def test_an_endpoint_that_reports_is_believed_over_what_it_was_sent(scene: Scene) -> None:
    scene.residency.stored("a", 16, TOKENS[:8], Tier.GPU)
    scene.views.approximate.stored("a", TEXT)
    scene.views.approximate.stored("b", TEXT[:1])
    assert scene.held(prompt(TEXT, TOKENS)) == {"a": 2, "b": 1}


def test_what_was_just_sent_counts_before_the_engine_reports_it(scene: Scene) -> None:
    scene.residency.stored("a", 16, blocks(7), Tier.GPU)
    scene.views.sent("a", prompt(TEXT, TOKENS), 10_000, 1.0)
    assert scene.held(prompt(TEXT, TOKENS), now=1.5) == {"a": 4}
    assert scene.held(prompt(TEXT, TOKENS), now=60.0) == {}


def test_prompts_without_token_ids_fall_back_to_what_was_sent(scene: Scene) -> None:
    scene.residency.stored("a", 16, TOKENS, Tier.GPU)
    scene.views.approximate.stored("b", TEXT)
    assert scene.held(prompt(TEXT)) == {"b": 4}


def test_lower_tiers_can_be_fetched(scene: Scene) -> None:
    scene.residency.stored("a", 16, TOKENS[:4], Tier.GPU)
    scene.residency.stored("a", 16, TOKENS[4:12], Tier.CPU)
    match = scene.views.look(prompt(TEXT, TOKENS), scene.group, 0.0, 1.0)
    assert match.blocks("a") == 1
    assert match.fetch == {"a": 2}


def test_a_restart_empties_every_view(scene: Scene) -> None:
    scene.residency.stored("a", 16, TOKENS, Tier.GPU)
    scene.views.sent("a", prompt(TEXT, TOKENS), 10_000, 0.0)
    scene.views.restarted("a")
    assert scene.held(prompt(TEXT, TOKENS)) == {}


def test_the_receipt_names_what_each_view_said() -> None:
    residency = Residency(1 << 22)
    router = Router(
        Fleet(),
        PrefixIndex(1 << 22),
        make_policy("predicted_time"),
        RouterSettings(),
        residency,
    )
    for name in NAMES:
        router.upsert_endpoint(Endpoint(name, f"http://{name}", models=("m",)), 0.0)
        router.fleet.observe_health(name, True, 0.0, "")
    residency.stored("b", 16, TOKENS[:8], Tier.GPU)
    residency.stored("b", 16, TOKENS[8:], Tier.CPU)
    decision = router.route(prompt(TEXT, TOKENS), 0.0)
    assert not hasattr(decision, "kind")
    views = decision.views
    assert decision.endpoint.name == "b"
    assert views is not None
    assert (views[0].exact, views[0].reachable) == (128, 256)
    assert decision.predicted_cached_tokens == 256
