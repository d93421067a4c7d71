"""What finished requests add to the books, and that clients can't make the books grow."""

from gateway.record import RequestRecord
from gateway.telemetry import OTHER_MODEL, UNKNOWN_MODEL, Histogram, Telemetry


def record(model: str = "m", **values: object) -> RequestRecord:
    made = RequestRecord(
        request_id="1",
        client="127.0.0.1",
        method="POST",
        path="/v1/chat/completions",
        started=0.0,
        api="chat",
        model=model,
        status=200,
        endpoint="a",
        attempts=1,
        duration=2.0,
    )
    for name, value in values.items():
        setattr(made, name, value)
    return made


def booked(*records: RequestRecord, telemetry: Telemetry | None = None) -> Telemetry:
    telemetry = Telemetry() if telemetry is None else telemetry
    for each in records:
        telemetry.started()
        telemetry.finished(each)
    return telemetry


def test_a_bound_belongs_to_its_own_bucket() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 2.5):
        histogram.observe(value)
    assert histogram.counts == [2, 2, 1]
    assert histogram.sum == 7.5


def test_requests_in_flight_are_those_started_and_not_finished() -> None:
    telemetry = Telemetry()
    telemetry.started()
    telemetry.started()
    assert telemetry.in_flight == 2
    telemetry.finished(record())
    assert telemetry.in_flight == 1


def test_requests_are_counted_by_model_api_and_status() -> None:
    telemetry = booked(record(), record(), record(status=499, reason="client_gone"), record("n"))
    assert telemetry.models["m"].requests == {("chat", 200): 2, ("chat", 499): 1}
    assert telemetry.models["n"].requests == {("chat", 200): 1}
    assert telemetry.errors == {"client_gone": 1}


def test_durations_are_of_requests_that_an_endpoint_answered_well() -> None:
    telemetry = booked(
        record(duration=1.0),
        record(duration=8.0, reason="upstream_closed"),
        record(duration=16.0, endpoint=""),
    )
    assert telemetry.models["m"].request_seconds.sum == 1.0


def test_times_that_are_not_known_are_not_counted() -> None:
    telemetry = booked(record(), record(ttft=0.5), record(ttft=0.25, inter_token=0.01))
    model = telemetry.models["m"]
    assert sum(model.first_token_seconds.counts) == 2
    assert model.first_token_seconds.sum == 0.75
    assert sum(model.inter_token_seconds.counts) == 1
    assert sum(telemetry.decision_seconds.counts) == 0
    booked(record(decision_seconds=0.0), telemetry=telemetry)
    assert sum(telemetry.decision_seconds.counts) == 1


def test_a_hit_ratio_has_only_requests_with_an_answer_below_the_line() -> None:
    telemetry = booked(
        record(prompt_tokens=100, predicted_cached_tokens=64.0),
        record(prompt_tokens=100, predicted_cached_tokens=0.0, cached_tokens=50),
        record(predicted_cached_tokens=999.0),
        record(completion_tokens=7),
    )
    model = telemetry.models["m"]
    assert (model.prompt_tokens, model.completion_tokens) == (200, 7)
    assert (model.predicted.cached, model.predicted.queried) == (64.0, 200)
    assert (model.reported.cached, model.reported.queried) == (50.0, 100)


def test_no_more_is_cached_than_was_asked_for() -> None:
    telemetry = booked(record(prompt_tokens=10, predicted_cached_tokens=64.0))
    assert telemetry.models["m"].predicted.cached == 10


def test_retries_and_failures_are_counted_by_reason_and_by_endpoint() -> None:
    telemetry = booked(
        record(endpoint="b", retries=("connect_failed",), failed_endpoints=("a",)),
        record(
            endpoint="b",
            retries=("status_503",),
            failed_endpoints=(
                "a",
                "b",
            ),
            reason="upstream_closed",
        ),
    )
    assert telemetry.retries == {"connect_failed": 1, "status_503": 1}
    assert telemetry.endpoints["a"].failures == 2
    assert telemetry.endpoints["a"].requests == 0
    assert telemetry.endpoints["b"].failures == 1
    assert telemetry.endpoints["b"].requests == 2


def test_endpoints_that_left_are_forgotten() -> None:
    telemetry = booked(record(endpoint="a"), record(endpoint="b"))
    telemetry.keep_endpoints(["b", "c"])
    assert set(telemetry.endpoints) == {"b"}
    assert telemetry.endpoints["b"].requests == 1


# -- labels that clients choose ------------------------------------------------------------


def refused(model: str) -> RequestRecord:
    return record(model, endpoint="", status=404, reason="unknown_model")


def test_models_that_clients_invent_share_one_label() -> None:
    telemetry = booked(*(refused(f"invented-{number}") for number in range(1_000)))
    assert set(telemetry.models) == {UNKNOWN_MODEL}
    assert telemetry.models[UNKNOWN_MODEL].requests == {("chat", 404): 1_000}


def test_a_model_that_an_endpoint_was_sent_has_its_name_from_then_on() -> None:
    telemetry = booked(
        record("m"), record("m", endpoint="", status=502, reason="connect_failed"), record("")
    )
    assert telemetry.models["m"].requests == {("chat", 200): 1, ("chat", 502): 1}
    assert set(telemetry.models) == {"m", ""}


def test_a_model_of_the_fleet_has_its_name_also_when_no_endpoint_could_be_sent_it() -> None:
    telemetry = Telemetry({"m"}.__contains__)
    booked(
        record("m", endpoint="", status=503, reason="no_endpoint"),
        refused("n"),
        telemetry=telemetry,
    )
    assert set(telemetry.models) == {"m", UNKNOWN_MODEL}


def test_adapters_that_come_and_go_cannot_grow_the_books_without_end() -> None:
    adapters = [record(f"adapter-{number}") for number in range(50)]
    telemetry = booked(*adapters, telemetry=Telemetry(max_models=10))
    assert len(telemetry.models) == 11
    assert telemetry.models[OTHER_MODEL].requests == {("chat", 200): 40}
