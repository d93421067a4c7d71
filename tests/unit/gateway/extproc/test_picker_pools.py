"""Which pool a request through Envoy is for, and what its rules do to it."""

import json
from typing import Any

import pytest

from endpoints.discovery.kubernetes.rules import ModelTargets, PoolRules
from gateway.apis.call import ApiError
from gateway.brains import Brains
from gateway.extproc.pools import PickerPools
from routing.endpoint import Load
from routing.fleet import Endpoint, Fleet, ServedModel
from routing.policies import make_policy
from routing.prefix.index import PrefixIndex
from routing.router import Router, RouterSettings
from tests.support.processing import CHAT, Envoy
from tests.support.processors import processor


def router(address: str, *models: str) -> Router:
    fleet = Fleet()
    fleet.upsert(Endpoint(address, f"http://{address}"), 0.0)
    fleet.observe_models(address, [ServedModel(model) for model in models], 0.0)
    fleet.observe_health(address, True, 0.0, "test")
    return Router(fleet, PrefixIndex(1 << 20), make_policy("round_robin"), RouterSettings())


def pools() -> PickerPools:
    brains = Brains({"n/a": router("10.0.0.1:80", "m"), "n/b": router("10.0.0.2:80", "m", "k")})
    found = PickerPools(brains)
    found.called([("n/a", "n", "epp-a"), ("n/b", "n", "epp-b")])
    return found


@pytest.mark.parametrize(
    ("call", "subset", "model", "pool"),
    [
        ({b"x-inferway-pool": b"n/b", b":authority": b"epp-a.n.svc:9002"}, None, "m", "n/b"),
        ({b":authority": b"epp-b.n.svc.cluster.local:9002"}, None, "m", "n/b"),
        ({b":authority": b"outbound|9002||epp-b.n.svc.cluster.local"}, None, "m", "n/b"),
        ({b":authority": b"epp-b"}, None, "m", "n/b"),
        ({b":authority": b"elsewhere"}, ("10.0.0.2:80",), "m", "n/b"),
        ({}, ("10.9.9.9:80",), "k", "n/b"),
        ({}, None, "k", "n/b"),
        ({}, None, "m", "n/a"),
        ({}, None, None, "n/a"),
    ],
)
def test_what_tells_the_pool(
    call: dict[bytes, bytes], subset: tuple[str, ...] | None, model: str | None, pool: str
) -> None:
    assert pools().of(call, subset, model).name == pool


def test_a_pool_that_there_is_not_is_said() -> None:
    with pytest.raises(ApiError, match="n/x"):
        pools().of({b"x-inferway-pool": b"n/x"}, None, "m")
    with pytest.raises(ApiError, match="no pool"):
        PickerPools(Brains()).of({}, None, "m")


def test_a_service_that_several_pools_name_tells_nothing() -> None:
    found = pools()
    found.called([("n/a", "n", "epp"), ("n/b", "n", "epp")])
    assert found.of({b":authority": b"epp.n.svc"}, None, "k").name == "n/b"


def test_a_pool_that_came_just_now_is_known() -> None:
    found = pools()
    found.brains.add("n/c", router("10.0.0.3:80", "late"))
    assert found.of({}, None, "late").book.name_of("10.0.0.3:80") == "10.0.0.3:80"
    found.brains.remove("n/c")
    found.changed()
    assert found.of({}, None, "k").name == "n/b"


def asked(rules: PoolRules, body: dict[str, Any], load: Load | None = None, **fields: str) -> Any:
    """An Envoy whose request has been answered for, and the reply."""
    one = processor([], **{})
    found = pools()
    found.brains.set_rules("n/b", rules)
    one.context.pools = found
    if load is not None:
        router = found.brains.of("n/b")
        assert router is not None
        router.fleet.observe_load("10.0.0.2:80", load)
    envoy = Envoy(one, response="FULL_DUPLEX_STREAMED")
    envoy.request({**CHAT, **{name.replace("_", "-"): value for name, value in fields.items()}})
    messages = [{"role": "user", "content": "hi"}]
    body = {"messages": messages, **body}
    return envoy, envoy.body(json.dumps(body).encode(), ends=True)


def test_a_rewritten_request_answers_under_its_first_name() -> None:
    rules = PoolRules(rewrites={"food": ModelTargets(("k",), (1,), "canary")})
    envoy, replies = asked(rules, {"model": "food"})
    assert replies[0].destination == "10.0.0.2:80"
    assert json.loads(replies[1].chunk)["model"] == "k"
    (head,) = envoy.response()
    assert "content-length" in head.removed
    pieces = [b'{"id":1,"mod', b'el": "k","x":"\\"model\\":\\"k\\""}']
    chunks = [*envoy.response_body(pieces[0]), *envoy.response_body(pieces[1], ends=True)]
    whole = b"".join(chunk.chunk for chunk in chunks)
    assert whole == b'{"id":1,"model": "food","x":"\\"model\\":\\"k\\""}'
    assert [chunk.ends for chunk in chunks][-1]


def test_what_is_held_of_an_answer_goes_out_before_its_trailers() -> None:
    rules = PoolRules(rewrites={"food": ModelTargets(("k",), (1,), "canary")})
    envoy, _ = asked(rules, {"model": "food"})
    envoy.response()
    assert not envoy.response_body(b'"mod')
    replies = envoy.response_trailers()
    assert [reply.kind for reply in replies] == ["response_body", "response_trailers"]
    assert replies[0].chunk == b'"mod'


def test_a_sheddable_request_is_refused_when_its_pool_is_saturated() -> None:
    rules = PoolRules(priorities={"batch": -1})
    named = {"x_gateway_inference_objective": "batch"}
    busy = Load(at=1e12, waiting=50.0)
    _, replies = asked(rules, {"model": "k"}, busy, **named)
    status, fields, _body = replies[0].answer
    assert (status, fields["x-llm-d-request-dropped-reason"]) == (429, b"rejected-saturated")
    for load, objective in ((Load(at=1e12, waiting=0.0), "batch"), (busy, "unknown")):
        _, replies = asked(rules, {"model": "k"}, load, x_gateway_inference_objective=objective)
        assert replies[0].destination == "10.0.0.2:80"
