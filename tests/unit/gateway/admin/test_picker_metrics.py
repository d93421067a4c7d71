"""The inference extension's metric names, both generations, from the same books."""

from collections.abc import Mapping
from typing import Any

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import CollectorRegistry

from gateway.admin.metrics import RequestMetrics
from gateway.admin.pickermetrics import PickerMetrics
from gateway.pickerbooks import MOST_LABELS, OTHER, PickerBooks
from routing.fleet import Load
from tests.support.gateways import MODEL, chat
from tests.support.processing import CHAT, Envoy
from tests.support.processors import ProcessorUnderTest, processor

A, B = "10.0.0.1:8000", "10.0.0.2:8001"
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def made(**options: Any) -> ProcessorUnderTest:
    return processor([f"http://{A}", f"http://{B}"], **options)


def samples(one: ProcessorUnderTest) -> Samples:
    """What Prometheus reads, beside our own metrics of the same requests."""
    registry = CollectorRegistry()
    context = one.context
    registry.register(RequestMetrics(context.telemetry))
    registry.register(
        PickerMetrics(context.books, context.telemetry, lambda: [("test", one.router)])
    )
    text = generate_latest(registry).decode()
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, "one series twice"
            found[key] = sample.value
    return found


def value(found: Samples, name: str, labels: Mapping[str, str] | None = None) -> float | None:
    return found.get((name, frozenset((labels or {}).items())))


def ask(
    one: ProcessorUnderTest, body: bytes | None = None, *, learn: bool = False, **fields: str
) -> None:
    envoy = Envoy(one, response="FULL_DUPLEX_STREAMED" if learn else "NONE")
    headers = {name.replace("_", "-"): text for name, text in fields.items()}
    envoy.request({**CHAT, **headers})
    replies = envoy.body(chat(streamed=True) if body is None else body, ends=True)
    if replies[0].kind != "immediate_response":
        envoy.response(content_type="text/event-stream")
        if learn:
            envoy.response_body(b"data: x\n\n")
            envoy.response_body(
                b'data: {"usage":{"prompt_tokens":40,"completion_tokens":10,'
                b'"prompt_tokens_details":{"cached_tokens":16}}}\n\n',
                ends=True,
            )
    envoy.close()


def test_requests_by_flow_and_their_sum_under_the_old_names() -> None:
    one = made()
    ask(one, x_gateway_inference_fairness_id="tenant-a")
    ask(one, x_llm_d_inference_fairness_id="tenant-b")
    ask(one)
    found = samples(one)
    models = {"model_name": MODEL, "target_model_name": MODEL}
    for fairness in ("tenant-a", "tenant-b", "default-flow"):
        labels = {**models, "fairness_id": fairness, "priority": "0"}
        assert value(found, "llm_d_epp_request_total", labels) == 1
        assert value(found, "llm_d_epp_request_running", labels) == 0
        assert value(found, "llm_d_epp_request_duration_seconds_count", labels) == 1
    labels = {**models, "priority": "0"}
    assert value(found, "inference_objective_request_total", labels) == 3
    assert value(found, "inference_objective_request_duration_seconds_count", models) == 3
    assert value(found, "inference_objective_request_sizes_sum", models) == 3 * len(
        chat(streamed=True)
    )
    assert value(found, "inference_objective_running_requests", {"model_name": MODEL}) == 0


def test_what_engines_report_where_bodies_come_by() -> None:
    one = made()
    ask(one)
    models = {"model_name": MODEL, "target_model_name": MODEL}
    assert value(samples(one), "inference_objective_input_tokens_count", models) is None
    ask(one, learn=True)
    found = samples(one)
    for name, expected in (
        ("input_tokens", 40),
        ("prompt_cached_tokens", 16),
        ("output_tokens", 10),
    ):
        assert value(found, f"inference_objective_{name}_sum", models) == expected
        assert value(found, f"inference_objective_{name}_count", models) == 1
    assert value(found, "inference_objective_request_ttft_seconds_count", models) == 1
    assert (
        value(found, "inference_objective_normalized_time_per_output_token_seconds_count", models)
        == 1
    )


def test_errors_by_code() -> None:
    one = made()
    ask(one, chat().replace(MODEL.encode(), b"other"))
    found = samples(one)
    labels = {"model_name": "other", "target_model_name": "other", "error_code": "NotFound"}
    assert value(found, "inference_objective_request_error_total", labels) == 1
    assert (
        value(
            found,
            "llm_d_epp_request_error_total",
            {**labels, "fairness_id": "default-flow", "priority": "0"},
        )
        == 1
    )
    failed = {"status": "failure", "target_model_name": "other", "namespace": "", "port": ""}
    assert value(found, "llm_d_epp_scheduler_attempts_total", {**failed, "endpoint_name": ""}) == 1


def test_choices_and_rewrites() -> None:
    one = made(rewrites={"alias": {MODEL: 1}})
    ask(one, chat().replace(MODEL.encode(), b"alias"))
    found = samples(one)
    chosen = {
        "status": "success",
        "target_model_name": MODEL,
        "pod_name": A,
        "namespace": "",
        "port": "8000",
    }
    assert value(found, "inference_extension_scheduler_attempts_total", chosen) == 1
    rewrite = {"model_rewrite_name": "alias", "model_name": "alias", "target_model": MODEL}
    for prefix in ("llm_d_epp_", "inference_extension_"):
        assert value(found, f"{prefix}model_rewrite_decisions_total", rewrite) == 1
        assert value(found, f"{prefix}scheduler_e2e_duration_seconds_count") == 1
    labels = {"model_name": "alias", "target_model_name": MODEL, "priority": "0"}
    assert value(found, "inference_objective_request_total", labels) == 1


def test_the_pool_as_its_engines_report_it() -> None:
    one = made()
    pool = {"name": "test"}
    found = samples(one)
    assert value(found, "inference_pool_ready_pods", pool) == 2
    assert value(found, "inference_pool_average_queue_size", pool) is None
    one.router.fleet.observe_load(A, Load(1.0, running=4.0, waiting=3.0, kv_usage=0.5))
    one.router.fleet.observe_load(B, Load(1.0, running=2.0, waiting=1.0))
    one.router.fleet.observe_health(B, False, 1.0, "test")
    found = samples(one)
    for prefix in ("llm_d_epp_", "inference_pool_"):
        assert value(found, f"{prefix}average_queue_size", pool) == 2
        assert value(found, f"{prefix}average_running_requests", pool) == 3
        assert value(found, f"{prefix}average_kv_cache_utilization", pool) == 0.5
    assert value(found, "llm_d_epp_ready_endpoints", pool) == 1
    each = {**pool, "model_server_pod": A}
    assert value(found, "inference_pool_per_pod_queue_size", each) == 3


def test_labels_that_clients_choose_are_bounded() -> None:
    books = PickerBooks("test")
    for number in range(2 * MOST_LABELS):
        flow = books.flow("m", "m", f"tenant-{number}", 0)
        books.started(flow)
    assert len(books.flows) == MOST_LABELS + 1
    assert books.flow("m", "m", "new", 0).fairness == OTHER
    assert books.flow("m", "m", "tenant-1", 0).fairness == "tenant-1"


def test_endpoints_that_left_are_forgotten() -> None:
    books = PickerBooks("test")
    flow = books.flow("m", "m", "", 0)
    for name in ("a", "b"):
        books.chosen(flow, name)
    books.keep_endpoints({"b"})
    assert books.attempts == {("m", "b"): 1}
