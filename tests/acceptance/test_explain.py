"""`inferway explain` against a gateway that serves, as an operator uses it."""

import json
from collections.abc import Iterator

import openai
import pytest

from tests.support.processes import Served, run, serving


@pytest.fixture(scope="module")
def embedded() -> Iterator[Served]:
    with serving("--embedded") as served:
        yield served


def asked(served: Served, prompt: str, request_id: str) -> None:
    """A streamed chat to its end, under an id of ours."""
    with openai.OpenAI(base_url=served.url + "/v1", api_key="unused", max_retries=0) as client:
        for _ in client.chat.completions.create(
            model="sim-8b",
            messages=[{"role": "user", "content": prompt}],
            max_tokens=8,
            stream=True,
            stream_options={"include_usage": True},
            extra_headers={"x-request-id": request_id},
        ):
            pass


def test_a_request_is_explained(embedded: Served) -> None:
    prompt = "Tell me everything about gateways. " * 200
    asked(embedded, prompt, "first")
    asked(embedded, prompt, "second")
    ran = run("explain", "second", "--admin", embedded.admin)
    assert ran.returncode == 0, ran.stderr
    for said in ("Why: ", "predicted_time", "first token", "predicted", "of them cached", "done"):
        assert said in ran.stdout
    page = json.loads(run("explain", "second", "--admin", embedded.admin, "--json").stdout)
    assert (page["id"], page["outcome"], len(page["candidates"])) == ("second", "done", 4)
    assert all(candidate["endpoint"] in ran.stdout for candidate in page["candidates"])
    first = page["candidates"][0]
    assert first["endpoint"] == page["endpoint"]
    assert first["cached_tokens"] > 1_000
    assert first["predicted_itl"] > 0
    assert page["observed"]["cached_tokens"] > 1_000
    assert page["error"]["ttft"] is not None and page["error"]["regret"] is not None


def test_the_latest_are_listed_and_filtered(embedded: Served) -> None:
    asked(embedded, "Hello", "listed")
    ran = run("explain", "--admin", embedded.admin, "--limit", "1")
    assert ran.returncode == 0, ran.stderr
    assert "listed" in ran.stdout and "done" in ran.stdout
    none = run("explain", "--admin", embedded.admin, "--outcome", "failed")
    assert (none.returncode, none.stdout) == (0, "no decision matches\n")
    pages = json.loads(run("explain", "--admin", embedded.admin, "--json").stdout)
    assert "listed" in [page["id"] for page in pages]


def test_the_metrics_hold_predictions_against_what_came(embedded: Served) -> None:
    asked(embedded, "Hello again", "measured")
    text = embedded.get("/metrics")
    assert 'inferway_ttft_prediction_error_seconds_count{direction="' in text
    assert "inferway_endpoint_ttft_relative_error{" in text
    assert any(
        endpoint["prediction"] is not None
        for endpoint in json.loads(embedded.get("/debug/endpoints"))
    )


def test_what_can_not_be_explained_is_an_error_that_helps(embedded: Served) -> None:
    unknown = run("explain", "nope", "--admin", embedded.admin)
    assert unknown.returncode == 2
    assert "no receipt of a request 'nope': kept are the latest" in unknown.stderr
    wrong = run("explain", "--admin", embedded.admin, "--outcome", "lost")
    assert wrong.returncode == 2 and "give one of done" in wrong.stderr
    clients = run("explain", "--admin", embedded.url)  # the port for clients
    assert clients.returncode == 2 and "no Inferway admin server" in clients.stderr
