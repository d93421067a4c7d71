"""`inferway bench discovery`, short: a cluster that churns, and a fleet that follows."""

from bench.discovery import measure


async def test_a_fleet_follows_a_churning_cluster() -> None:
    found = await measure.measure(pods=5, ports=2, rate=20.0, seconds=2.0)
    assert (found.missed, found.phantoms) == (0, 0), found.examples
    assert found.changes > 0
    assert found.lists == 2  # the server forgot its history once
    assert [check.name for check in measure.checks(found)]
