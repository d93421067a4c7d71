"""Real engines' prefix caches: used, reported, followed and predicted."""

from random import Random

from bench.lab.engine import BLOCK_SIZE
from gateway.app import Gateway
from routing.prefix.tokens import blocks_of, token_salt
from tests.lab.conftest import Lab
from tests.lab.servers import ask, cached, metrics, name_of, settled, through, tokens

HITS = "vllm:prefix_cache_hits_total"
ONE = {"max_tokens": 1, "temperature": 0}


async def test_a_repeated_prefix_hits_in_the_engine(gateway: Gateway, lab: Lab) -> None:
    dice = Random("prefix")
    prefix = tokens(dice, 20 * BLOCK_SIZE)
    first, _ = await through(gateway, "/v1/completions", {"prompt": [*prefix, 5], **ONE})
    before = await metrics(lab.servers, HITS)
    second, answer = await through(
        gateway, "/v1/completions", {"prompt": prefix + tokens(dice, 50), **ONE}
    )
    after = await metrics(lab.servers, HITS)
    assert second.endpoint.name == first.endpoint.name
    risen = {name: after[name] - before[name] for name in after}
    assert risen.pop(second.endpoint.name) == len(prefix) == cached(answer)
    assert not any(risen.values())


async def test_the_exact_view_is_the_engines_cache(gateway: Gateway, lab: Lab) -> None:
    """Prompts beyond a server's cache; then each of a sample is looked up, and asked for."""
    server, dice = lab.servers[0], Random("exact view")
    bases = [tokens(dice, 400) for _ in range(8)]
    prompts = [
        dice.choice(bases)[: dice.randrange(100, 400)] + tokens(dice, dice.randrange(20, 900))
        for _ in range(6 * server.cache_tokens // (5 * 500))
    ]
    for prompt in prompts:
        await ask(server.url, "/v1/completions", {"prompt": prompt, **ONE})
    await settled(gateway)
    (view,) = (one for one in gateway.event_views() if one.source.endpoint == name_of(server))
    assert view.health.removed_blocks > 0, "nothing was evicted: the sample proves too little"
    assert not view.incomplete
    assert view.blocks <= server.cache_tokens // BLOCK_SIZE
    salt = token_salt(None, None)
    compared = []
    for prompt in [*dice.sample(prompts[:-6], 6), *prompts[-6:]]:  # old ones and fresh ones
        held = gateway.router.residency.look({BLOCK_SIZE: blocks_of(salt, prompt, BLOCK_SIZE)})
        known = held[name_of(server)].gpu_tokens if name_of(server) in held else 0
        answer = await ask(server.url, "/v1/completions", {"prompt": prompt, **ONE})
        compared.append((known, cached(answer)))
        await settled(gateway)  # what the question itself changed
    assert all(known == truth for known, truth in compared), compared
    assert any(truth == 0 for _, truth in compared), compared
    assert sum(truth > 0 for _, truth in compared) >= 3, compared


async def test_cached_tokens_are_predicted_as_the_engine_reports_them(gateway: Gateway) -> None:
    """Two conversations that grow, as chats: templated, tokenized and matched by the gateway."""
    dice = Random("chats")
    words = [
        "sea",
        "tide",
        "moon",
        "ship",
        "wind",
        "salt",
        "rope",
        "gull",
        "harbour",
        "north",
        "chart",
        "storm",
    ]
    chats: list[list[dict[str, str]]] = [
        [{"role": "system", "content": f"You are captain {name}. " * 20}] for name in ("A", "B")
    ]
    compared = []
    for turn in range(3):
        for chat in chats:
            question = " ".join(dice.choice(words) for _ in range(60))
            chat.append({"role": "user", "content": f"{turn}: {question}"})
            decision, answer = await through(
                gateway,
                "/v1/chat/completions",
                {"messages": chat, "max_tokens": 24, "temperature": 0},
            )
            assert decision.request.token_chains is not None
            compared.append((round(decision.predicted_cached_tokens), cached(answer)))
            said = answer["choices"][0]["message"]["content"]
            chat.append({"role": "assistant", "content": said})
            await settled(gateway)
    assert all(predicted == reported for predicted, reported in compared), compared
    assert compared[-1][1] > 200
