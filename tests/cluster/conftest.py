"""Tests of what talks to Kubernetes: each one against a real cluster, or against the stand-in.

`make test` runs them against the stand-in. ``pytest -m cluster --kubeconfig FILE`` runs them
against that cluster: each test in a namespace of its own that is deleted afterwards. No kubelets
are needed there: pods become ready as tests patch their status.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.clusters import Cluster, real_cluster, stand_in_cluster

_HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker(pytest.mark.cluster)


@pytest.fixture
async def cluster(request: pytest.FixtureRequest) -> AsyncIterator[Cluster]:
    """A cluster with a fresh namespace; see `tests.support.clusters.Cluster`."""
    file = request.config.getoption("--kubeconfig")
    context = stand_in_cluster() if file is None else real_cluster(file)
    async with context as found:
        yield found
