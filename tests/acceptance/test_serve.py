"""The gateway as a user runs it: the command, its servers, real clients, real signals."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import anthropic
import openai
import pytest

from tests.support.processes import Served, run, serving, simulated


@pytest.fixture(scope="module")
def embedded() -> Iterator[Served]:
    """One gateway with the embedded fleet for the tests that only talk to it."""
    with serving("--embedded") as served:
        yield served


@pytest.fixture
def client(embedded: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=embedded.url + "/v1", api_key="unused", max_retries=0) as client:
        yield client


def test_chat_with_the_openai_client(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="sim-8b", messages=[{"role": "user", "content": "Hello"}], max_tokens=8
    )
    assert answer.choices[0].message.content
    assert answer.usage is not None and answer.usage.prompt_tokens > 0


def test_a_streamed_chat_with_the_openai_client(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="sim-8b",
        messages=[{"role": "user", "content": "Count"}],
        max_tokens=12,
        extra_body={"ignore_eos": True},
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert len(text.split()) >= 6
    assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens == 12


def test_completions_embeddings_and_responses_with_the_openai_client(
    client: openai.OpenAI,
) -> None:
    completion = client.completions.create(model="sim-8b", prompt=["one", "two"], max_tokens=4)
    assert len(completion.choices) == 2
    tokens = client.completions.create(model="sim-8b", prompt=[1, 2, 3, 4], max_tokens=4)
    assert tokens.usage is not None and tokens.usage.prompt_tokens == 4
    embeddings = client.embeddings.create(model="sim-8b", input=["a", "b"])
    assert len(embeddings.data) == 2 and len(embeddings.data[0].embedding) == 384
    response = client.responses.create(model="sim-8b", input="Hello", max_output_tokens=16)
    assert response.output_text
    kinds = [
        event.type
        for event in client.responses.create(
            model="sim-8b", input="Hello", max_output_tokens=16, stream=True
        )
    ]
    assert kinds[0] == "response.created" and kinds[-1] in {
        "response.completed",
        "response.incomplete",
    }


def test_messages_with_the_anthropic_client(embedded: Served) -> None:
    with anthropic.Anthropic(base_url=embedded.url, api_key="unused", max_retries=0) as client:
        message = client.messages.create(
            model="sim-8b", max_tokens=16, messages=[{"role": "user", "content": "Hello"}]
        )
        assert message.content
        with client.messages.stream(
            model="sim-8b", max_tokens=16, messages=[{"role": "user", "content": "Hello"}]
        ) as stream:
            assert stream.get_final_text()
        with pytest.raises(anthropic.NotFoundError) as caught:
            client.messages.create(
                model="nope", max_tokens=16, messages=[{"role": "user", "content": "Hello"}]
            )
        assert "nope" in str(caught.value)


def test_models_and_errors_with_the_openai_client(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["sim-8b"]
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(
            model="nope", messages=[{"role": "user", "content": "Hello"}]
        )
    assert unknown.value.code == "unknown_model" and unknown.value.param == "model"
    with pytest.raises(openai.BadRequestError) as wrong:
        client.post("/chat/completions", body={"model": "sim-8b"}, cast_to=object)
    assert "messages" in str(wrong.value)


def test_equal_prefixes_land_on_one_endpoint_and_hit_its_cache(
    embedded: Served, client: openai.OpenAI
) -> None:
    system = "You are a careful assistant. " * 400
    seen, cached = set(), []
    for turn in range(6):
        raw = client.chat.completions.with_raw_response.create(
            model="sim-8b",
            messages=[
                {"role": "system", "content": system},
                {"role": "user", "content": f"question {turn}"},
            ],
            max_tokens=2,
        )
        seen.add(raw.headers["x-inferway-endpoint"])
        usage = raw.parse().usage
        assert usage is not None and usage.prompt_tokens_details is not None
        cached.append(usage.prompt_tokens_details.cached_tokens)
    assert len(seen) == 1
    assert cached[0] == 0 and min(filter(None, cached[1:])) > 2000 and all(cached[1:])
    receipt = json.loads(embedded.get("/debug/decisions?limit=1"))[0]
    assert receipt["candidates"][0]["cached_tokens"] > 2000
    assert 'inferway_prefix_hit_ratio{source="reported"}' in embedded.get("/metrics")


def test_operators_see_a_ready_gateway(embedded: Served) -> None:
    assert json.loads(embedded.get("/readyz"))["ready"] is True
    embedded.get("/healthz")
    endpoints = json.loads(embedded.get("/debug/endpoints"))
    assert len(endpoints) == 4
    assert {endpoint["engine"] for endpoint in endpoints} == {"vllm"}


def children_of(pid: int) -> list[int]:
    """Processes whose parent is ``pid``."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(fields[1]) == pid:
                found.append(int(entry.name))
    return found


def test_sigterm_ends_the_gateway_and_its_servers() -> None:
    with serving("--embedded") as served:
        children = children_of(served.process.pid)
        assert children
    end = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in children):
        assert time.monotonic() < end
        time.sleep(0.05)


def test_endpoints_follow_the_file(tmp_path: Path) -> None:
    with simulated() as first, simulated() as second:
        config = tmp_path / "inferway.yaml"
        config.write_text(f"endpoints: [{{url: {first.url}}}]\n")
        with serving("--config", str(config)) as served:
            assert len(json.loads(served.get("/debug/endpoints"))) == 1
            config.write_text(f"endpoints: [{{url: {first.url}}}, {{url: {second.url}}}]\n")
            end = time.monotonic() + 10
            while len(json.loads(served.get("/debug/endpoints"))) < 2:
                assert time.monotonic() < end
                time.sleep(0.1)
            config.write_text("endpoints: [{url: 'http://[broken'}]\n")
            time.sleep(2.5)  # two looks at the file: the broken one must change nothing
            assert len(json.loads(served.get("/debug/endpoints"))) == 2


def test_help_and_config_errors_are_worth_reading(tmp_path: Path) -> None:
    helped = run("serve", "--help")
    assert helped.returncode == 0 and "--embedded" in helped.stdout
    config = tmp_path / "bad.yaml"
    config.write_text("listen: {prot: 80}\n")
    checked = run("check-config", str(config))
    assert checked.returncode == 2
    assert "bad.yaml" in checked.stderr and "prot" in checked.stderr and "port" in checked.stderr
    refused = run("serve", "--policy", "round_robbin")
    assert refused.returncode == 2 and "round_robin" in refused.stderr
