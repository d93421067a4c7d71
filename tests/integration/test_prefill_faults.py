"""Thousands of requests under faults are `inferway bench prefill-faults`; here are hundreds."""

import logging

import pytest

from bench.fleet.settings import Connector
from bench.prefill.faults import checks, measure


@pytest.mark.parametrize("connector", [Connector.NIXL, Connector.SGLANG, Connector.MOONCAKE])
async def test_every_client_gets_an_answer_or_an_honest_error_and_nothing_leaks(
    connector: Connector, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "aiohttp.server")
    found = await measure(120, 0.1, connector=connector, lease=2.0, concurrency=8)
    # The share of right answers, and of prefills that were read, is for long runs to judge.
    estimates = {"right answers", "prefills that were read", "expired KV that was booked"}
    bad = [one for one in checks(found) if not one.ok and one.name not in estimates]
    assert not bad, found
    assert found.endings.get("right", 0) > 60


@pytest.mark.parametrize(
    "connector",
    [one for one in Connector if one is not Connector.MOONCAKE],  # asks for its engine id first
)
async def test_all_connectors_hand_over_end_to_end(connector: Connector) -> None:
    found = await measure(20, 0.0, connector=connector, lease=20.0, concurrency=4)
    assert found.endings == {"right": 20}
    assert found.fallbacks == {}
    if connector not in {Connector.EXAMPLE, Connector.LMCACHE}:
        assert found.kv_read == 20
    assert found.kv_held_at_the_end == found.kv_pinned_blocks_at_the_end == 0
