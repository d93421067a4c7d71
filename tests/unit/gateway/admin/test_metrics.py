"""What the books look like to Prometheus, read back with its own parser."""

import asyncio
import re
from pathlib import Path
from typing import cast

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from endpoints.kubernetes.cache import Cache
from endpoints.kubernetes.connection import Connection
from endpoints.kubernetes.resources import PODS
from gateway.admin.admissionmetrics import AdmissionMetrics
from gateway.admin.discoverymetrics import DiscoveryMetrics
from gateway.admin.endpointmetrics import EndpointMetrics
from gateway.admin.exposition import render
from gateway.admin.metrics import (
    CertificateMetrics,
    PrefixMetrics,
    RequestMetrics,
    RetryMetrics,
)
from gateway.admin.predictions import PredictionMetrics
from gateway.admin.scaling import ScalingMetrics
from gateway.admin.splitmetrics import SplitMetrics
from gateway.admission import Admissions
from gateway.brains import Brains
from gateway.held import End
from gateway.record import RequestRecord, SplitRecord
from gateway.settings import AdmissionSettings
from gateway.telemetry import Telemetry
from gateway.waiting import WaitingRoom, WaitingRooms
from routing.admission.entry import LaneKey
from routing.fleet import Endpoint, Fleet, Load
from routing.policies import make_policy
from routing.prefix.chain import text_chain
from routing.prefix.index import PrefixIndex
from routing.receipts import Receipts
from routing.router import Router, RouterSettings
from tests.support.receipts import answered, decided, over
from tests.support.scaletargets import Scene
from tests.support.splitting import request_of, route, router_of

DOCUMENT = Path(__file__).parents[4] / "docs" / "metrics.md"
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def samples(*collectors: Collector) -> Samples:
    """Everything rendered, by name and labels."""
    text = (await render(collectors)).decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def at(found: Samples, name: str, **labels: str) -> float | None:
    return found.get((f"inferway_{name}", frozenset(labels.items())))


def pooled(found: Samples, name: str, **labels: str) -> float | None:
    return at(found, name, pool="p", **labels)


def brains_of(
    fleet: Fleet, prefix: PrefixIndex | None = None, receipts: Receipts | None = None
) -> Brains:
    policy, index = make_policy("round_robin"), prefix or PrefixIndex(1 << 20)
    return Brains({"p": Router(fleet, index, policy, RouterSettings(), receipts=receipts)})


def finished(telemetry: Telemetry, **values: object) -> None:
    record = RequestRecord(
        request_id="1",
        client="127.0.0.1",
        method="POST",
        path="/v1/chat/completions",
        started=0.0,
        api="chat",
        model="m",
        status=200,
        endpoint="a",
        duration=3.0,
    )
    for name, value in values.items():
        setattr(record, name, value)
    telemetry.started()
    telemetry.finished(record)


def split_record() -> SplitRecord:
    """A split request to which everything happened."""
    split = SplitRecord()
    split.connector = "nixl"
    split.prefill_failures = ("x", "y")
    split.fallback = "y"
    split.prefill_seconds = 0.5
    split.transfer_seconds = 0.1
    split.transfer_bytes = 1000.0
    split.stranded_tokens = 7
    return split


def split_router() -> Router:
    """A router that has split a request."""
    router = router_of("pd")
    route(router, request_of())
    return router


async def test_requests_in_two_legs_are_told_apart() -> None:
    telemetry = Telemetry()
    assert not any("prefill_leg" in name for name, _ in await samples(RequestMetrics(telemetry)))
    finished(telemetry, split=split_record())
    finished(telemetry, split=SplitRecord())
    found = await samples(
        RequestMetrics(telemetry), SplitMetrics(Brains({"p": split_router()}), lambda: 0.0)
    )
    assert at(found, "split_requests_total", connector="nixl") == 1
    assert at(found, "split_requests_total", connector="") == 1
    assert at(found, "prefill_failures_total", reason="x") == 1
    assert at(found, "prefill_fallbacks_total", reason="y") == 1
    assert at(found, "prefill_leg_seconds_count") == 1
    assert at(found, "kv_transfer_seconds_sum") == 0.1
    assert at(found, "kv_transfer_bytes_total") == 1000
    assert at(found, "kv_stranded_tokens_total") == 7
    assert at(found, "split_decisions_total", reason="always", pool="p") == 1
    assert at(found, "kv_stranded_now_tokens", pool="p") == 0


async def test_requests_are_told_with_their_labels() -> None:
    telemetry = Telemetry()
    telemetry.started()
    finished(telemetry, retries=("connect_failed",))
    finished(telemetry, status=502, reason="upstream_closed")
    finished(telemetry, model='quo"te\n', status=200)
    found = await samples(RequestMetrics(telemetry))
    assert at(found, "requests_total", api="chat", model="m", status="200") == 1
    assert at(found, "requests_total", api="chat", model="m", status="502") == 1
    assert at(found, "requests_total", api="chat", model='quo"te\n', status="200") == 1
    assert at(found, "errors_total", reason="upstream_closed") == 1
    assert at(found, "retries_total", reason="connect_failed") == 1
    assert at(found, "in_flight_requests") == 1


async def test_histograms_are_cumulative_and_end_with_everything() -> None:
    telemetry = Telemetry()
    for ttft in (0.004, 0.005, 0.3, 1_000.0):
        finished(telemetry, ttft=ttft, decision_seconds=0.0001)
    found = await samples(RequestMetrics(telemetry))
    bucket = "time_to_first_token_seconds_bucket"
    assert at(found, bucket, model="m", le="0.005") == 2
    assert at(found, bucket, model="m", le="0.25") == 2
    assert at(found, bucket, model="m", le="0.5") == 3
    assert at(found, bucket, model="m", le="320.0") == 3
    assert at(found, bucket, model="m", le="+Inf") == 4
    assert at(found, "time_to_first_token_seconds_count", model="m") == 4
    assert at(found, "time_to_first_token_seconds_sum", model="m") == 1_000.309
    assert at(found, "decision_seconds_count") == 4
    assert at(found, "inter_token_seconds_count", model="m") is None  # there was none


async def test_hit_ratios_are_absent_until_a_source_says_something() -> None:
    telemetry = Telemetry()
    finished(telemetry, prompt_tokens=100, predicted_cached_tokens=60.0)
    found = await samples(RequestMetrics(telemetry))
    assert at(found, "prefix_hit_ratio", source="predicted") == 0.6
    assert at(found, "prefix_hit_ratio", source="reported") is None
    finished(telemetry, model="n", prompt_tokens=300, cached_tokens=100, completion_tokens=5)
    finished(telemetry, model="m", prompt_tokens=100, cached_tokens=0)
    found = await samples(RequestMetrics(telemetry))
    assert at(found, "prefix_hit_ratio", source="reported") == 0.25
    assert at(found, "prefix_cached_tokens_total", model="n", source="reported") == 100
    assert at(found, "prefix_queried_tokens_total", model="m", source="reported") == 100
    assert at(found, "prefix_queried_tokens_total", model="m", source="predicted") == 100
    assert at(found, "prompt_tokens_total", model="m") == 200
    assert at(found, "completion_tokens_total", model="n") == 5


async def test_the_index_tells_its_size_and_its_budget() -> None:
    prefix = PrefixIndex(1 << 20)
    prefix.stored("a", text_chain(b"", b"x" * 256 * 5))
    found = await samples(PrefixMetrics(brains_of(Fleet(), prefix)))
    assert pooled(found, "prefix_index_blocks") == 5
    assert pooled(found, "prefix_index_bytes") == prefix.bytes_used > 0
    assert pooled(found, "prefix_index_budget_bytes") == 1 << 20


def fleet_of(*endpoint_names: str) -> Fleet:
    fleet = Fleet()
    for name in endpoint_names:
        fleet.upsert(Endpoint(name, f"http://{name}"), 0.0)
    return fleet


async def test_an_endpoint_tells_what_is_known_and_nothing_else() -> None:
    fleet, prefix, telemetry = fleet_of("a", "b"), PrefixIndex(1 << 20), Telemetry()
    fleet.observe_health("a", True, 0.0, "")
    fleet.observe_load("a", Load(at=7.0, running=3.0, kv_usage=0.0))
    state = fleet.get("a")
    assert state is not None
    state.ledger.reserve("key", 4_000, 10, 9.75)
    prefix.stored("a", text_chain(b"", b"x" * 256 * 2))
    finished(
        telemetry,
        endpoint="a",
        failed_endpoints=(
            "b",
            "b",
        ),
    )
    found = await samples(EndpointMetrics(brains_of(fleet, prefix), telemetry, lambda: 10.0))
    assert pooled(found, "endpoint_healthy", endpoint="a") == 1
    assert pooled(found, "endpoint_healthy", endpoint="b") == 0
    assert pooled(found, "endpoint_in_flight_requests", endpoint="a") == 1
    rate = pooled(found, "endpoint_prefill_tokens_per_second", endpoint="a")
    assert rate is not None
    assert pooled(found, "endpoint_queued_prefill_tokens", endpoint="a") == 4_000 - rate / 4
    assert pooled(found, "endpoint_running", endpoint="a") == 3
    assert pooled(found, "endpoint_waiting", endpoint="a") is None  # not reported: not zero
    assert pooled(found, "endpoint_kv_usage", endpoint="a") == 0  # reported as zero
    assert pooled(found, "endpoint_load_age_seconds", endpoint="a") == 3
    assert pooled(found, "endpoint_load_age_seconds", endpoint="b") is None
    assert pooled(found, "endpoint_prefix_blocks", endpoint="a") == 2
    assert pooled(found, "endpoint_requests_total", endpoint="a") == 1
    assert pooled(found, "endpoint_failures_total", endpoint="b") == 2


async def test_an_endpoint_that_left_leaves_no_series() -> None:
    fleet, telemetry = fleet_of("a", "b"), Telemetry()
    finished(telemetry, endpoint="a")
    metrics = EndpointMetrics(brains_of(fleet), telemetry, lambda: 1.0)
    assert pooled(await samples(metrics), "endpoint_requests_total", endpoint="a") == 1
    fleet.remove("a")
    found = await samples(metrics)
    assert all(("endpoint", "a") not in labels for _, labels in found)
    assert pooled(found, "endpoint_requests_total", endpoint="b") == 0


async def test_predictions_are_held_against_what_came() -> None:
    receipts = Receipts(4)
    late = decided(ttfts=(0.5, 0.6))
    receipts.routed(late, 0.0)
    answered(late, ttft=1.0)
    late.reported_cached_tokens = 40
    receipts.observe(late)
    over(receipts, decided(ttfts=(1.0, 2.0)), ttft=0.75)
    found = await samples(PredictionMetrics(brains_of(fleet_of("e0", "e1"), receipts=receipts)))
    error = "ttft_prediction_error_seconds"
    assert pooled(found, f"{error}_sum", direction="under") == 0.5
    assert pooled(found, f"{error}_sum", direction="over") == 0.25
    assert pooled(found, f"{error}_bucket", direction="over", le="0.25") == 1
    assert pooled(found, f"{error}_bucket", direction="over", le="0.1") == 0
    assert pooled(found, "cached_prediction_error_tokens_sum", direction="over") == 60
    assert pooled(found, "ttft_regret_seconds_bucket", le="0.0") == 1
    assert pooled(found, "ttft_regret_seconds_count") == 2
    assert pooled(found, "ttft_regret_seconds_sum") == 0.4
    ratio = pooled(found, "endpoint_ttft_relative_error", endpoint="e0")
    assert ratio is not None and abs(ratio - (0.5 + 1 / 3) / 2) < 1e-9
    assert pooled(found, "endpoint_itl_relative_error", endpoint="e0") is not None
    assert pooled(found, "endpoint_ttft_relative_error", endpoint="e1") is None  # nothing compared
    assert pooled(found, "endpoint_cache_trust", endpoint="e1") == 1


async def test_the_documentation_has_every_metric_with_its_labels() -> None:
    receipts = Receipts(1)
    over(receipts, decided())
    fleet, telemetry = fleet_of("a"), Telemetry()
    brains = brains_of(fleet, receipts=receipts)
    fleet.observe_load("a", Load(at=0.0, running=1.0, waiting=1.0, kv_usage=0.5))
    finished(
        telemetry,
        reason="x",
        retries=("x",),
        prompt_tokens=1,
        cached_tokens=1,
        completion_tokens=1,
        ttft=1.0,
        inter_token=1.0,
        split=split_record(),
    )
    finished(telemetry)
    scene, rooms = Scene(1), WaitingRooms()
    await scene.go(0.5)
    rooms.add(WaitingRoom("default", fleet, now=lambda: 0.0))
    router = split_router()
    admissions = Admissions(AdmissionSettings(), lambda: 0.0)
    admissions.add("default", router)
    line = admissions.of(router)
    assert line is not None
    line.queue.offer(LaneKey("m", None), 0, "t", cost=1.0, size=1, now=0.0)
    line.books.ended("t", 0, End.ADMITTED, 1.0)
    told: dict[str, set[str]] = {}
    for name, labels in await samples(
        AdmissionMetrics(admissions, lambda: 0.0),
        RequestMetrics(telemetry),
        PrefixMetrics(brains),
        RetryMetrics(brains),
        CertificateMetrics(lambda: 1.0),
        EndpointMetrics(brains, telemetry, lambda: 0.0),
        PredictionMetrics(brains),
        DiscoveryMetrics(lambda: [Cache(cast(Connection, None), PODS)]),
        ScalingMetrics({"default": scene.controller}, rooms),
        SplitMetrics(Brains({"default": split_router()}), lambda: 0.0),
    ):
        base = re.sub(r"_(bucket|sum|count)$", "", name)
        if not base.startswith("inferway_"):
            continue  # a second time under somebody else's name
        told[base] = {label for label, _ in labels} - {"le"}
    documented = {}
    for name, cell in re.findall(
        r"^\| `(inferway_\w+)` \| (?:counter|gauge|histogram) \|([^|]*)\|",
        DOCUMENT.read_text(),
        re.M,
    ):
        per_endpoint = name.startswith("inferway_endpoint_")  # their table needs no such column
        documented[name] = (
            {"endpoint", "pool"} if per_endpoint else set(re.findall(r"`(\w+)`", cell))
        )
    assert documented == told


async def test_a_page_is_written_without_holding_up_others() -> None:
    metrics = RequestMetrics(Telemetry())
    page = asyncio.create_task(render([metrics]))
    turns = 0
    while not page.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns >= len(list(metrics.collect()))
