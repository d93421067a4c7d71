import json

import pytest
from xxhash import xxh3_64_intdigest

from bench.overhead.prompts import Prompts, text
from bench.overhead.scenarios import SCENARIOS, Scenario


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_bodies_are_json_of_one_size_with_shared_beginnings(scenario: Scenario) -> None:
    prompts = Prompts(scenario)
    bodies = [prompts.body(serial) for serial in range(2 * scenario.prefixes)]
    assert len(set(bodies)) == len(bodies)
    assert len({len(body) for body in bodies}) == 1
    parsed = [json.loads(body) for body in bodies]
    assert len({said["messages"][0]["content"] for said in parsed}) == scenario.prefixes
    assert {said["stream"] for said in parsed} == {scenario.streamed}
    raw = len(bodies[0])
    assert scenario.prompt_bytes <= raw <= scenario.prompt_bytes + 200


def test_requests_are_heads_with_the_right_length_and_the_same_bodies() -> None:
    prompts = Prompts(SCENARIOS[0])
    head, _, body = b"".join(prompts.request(7)).partition(b"\r\n\r\n")
    assert body == prompts.body(7)
    assert f"Content-Length: {len(body)}".encode() in head.split(b"\r\n")


def test_digests_are_those_of_the_bodies() -> None:
    prompts = Prompts(SCENARIOS[0])
    assert list(prompts.digests([3, 1])) == [
        xxh3_64_intdigest(prompts.body(3)),
        xxh3_64_intdigest(prompts.body(1)),
    ]


def test_text_is_json_content_at_every_size() -> None:
    for size in range(20, 400):
        assert len(text(size, 5)) == size
        json.loads(f'"{text(size, 5)}"')
