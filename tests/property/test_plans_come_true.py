"""Whatever cluster and pools: a scheduler that knows nothing of plans carries all of them out."""

import pytest

from bench.cluster.agreement import agreement
from bench.cluster.scenarios import scenario


@pytest.mark.parametrize("first", range(0, 60, 20))
def test_every_planned_pod_gets_its_place(first: int) -> None:
    found = [agreement(scenario(seed)) for seed in range(10_000 + first, 10_020 + first)]
    assert sum(one.pods for one in found) > 20
    assert [one for one in found if not one.exact] == []
