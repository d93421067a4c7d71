import logging

import pytest

from endpoints.probes.complaints import Complaints


def test_a_lasting_problem_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    complaints = Complaints(logging.getLogger("test"), "gpu1:8000")
    for _ in range(3):
        complaints.report("metrics", "GET /metrics answered 404")
    complaints.report("models", "GET /v1/models answered 401")
    complaints.report("metrics", "GET /metrics: no answer")
    for _ in range(2):
        complaints.settled("metrics")
    complaints.settled("health")
    assert [record.getMessage() for record in caplog.records] == [
        "gpu1:8000: metrics: GET /metrics answered 404",
        "gpu1:8000: models: GET /v1/models answered 401",
        "gpu1:8000: metrics: GET /metrics: no answer",
        "gpu1:8000: metrics: well again",
    ]
    assert caplog.records[0].__dict__["endpoint"] == "gpu1:8000"
