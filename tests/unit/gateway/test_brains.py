"""Whose a request is when there are several pools."""

from endpoints.discovery.kubernetes.rules import ModelTargets, PoolRules
from gateway.brains import Brains
from routing.fleet import Endpoint, Fleet, ServedModel
from routing.policies import make_policy
from routing.prefix.index import PrefixIndex
from routing.router import Router, RouterSettings


def router(endpoint: str, *models: str, healthy: bool = True) -> Router:
    fleet = Fleet()
    fleet.upsert(Endpoint(endpoint, f"http://{endpoint}:80"), 0.0)
    fleet.observe_models(endpoint, [ServedModel(model) for model in models], 0.0)
    fleet.observe_health(endpoint, healthy, 0.0, "test")
    return Router(fleet, PrefixIndex(1 << 20), make_policy("round_robin"), RouterSettings())


def test_the_only_pool_answers_for_everything() -> None:
    only = router("a", "m")
    brains = Brains({"p": only})
    assert brains.serving("m") is brains.serving("unheard of") is brains.serving(None) is only


def test_a_request_belongs_to_the_first_pool_that_can_serve_its_model() -> None:
    one, two, three = router("a", "m"), router("b", "n"), router("c", "n", "o")
    brains = Brains({"one": one, "two": two, "three": three})
    assert brains.serving("m") is one
    assert brains.serving("n") is two
    assert brains.serving("o") is three
    assert brains.serving(None) is one
    assert list(brains.models()) == ["m", "n", "o"]
    assert brains.url_of("o") == "http://c:80"


def test_a_pool_whose_endpoints_are_all_ill_speaks_for_its_model() -> None:
    well, ill = router("a", "m"), router("b", "n", healthy=False)
    brains = Brains({"well": well, "ill": ill})
    assert brains.serving("n") is ill  # it says that nobody is healthy: better than "unknown"
    assert brains.knows("n") and not brains.knows("x")
    assert brains.serving("x") is well


def test_pools_come_and_go() -> None:
    brains = Brains()
    assert brains.serving("m") is None and brains.url_of("m") is None
    first, second = router("a", "m"), router("b", "m")
    brains.add("first", first)
    brains.add("second", second)
    assert brains.serving("m") is first
    brains.remove("first")
    brains.remove("first")
    assert brains.serving("m") is second
    assert brains.of("first") is None and brains.of("second") is second
    assert [name for name, _ in brains] == ["second"]


def test_a_pool_that_rewrites_a_model_answers_for_it() -> None:
    one, two, three = router("a", "m"), router("b", "n"), router("c", "o")
    brains = Brains({"one": one, "two": two, "three": three})
    brains.set_rules("two", PoolRules(rewrites={"m": ModelTargets(("n",), (1,), "r")}))
    brains.set_rules("three", PoolRules(other=ModelTargets(("o",), (1,), "r")))
    assert brains.serving("m") is two
    assert brains.serving("n") is two
    assert brains.serving("anything") is three
    assert brains.rules_of(one) is None
    brains.set_rules("two", PoolRules())
    assert brains.serving("m") is one
    brains.remove("three")
    assert brains.serving("anything") is one
