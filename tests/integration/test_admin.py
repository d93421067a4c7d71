"""The operators' server over a real socket."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import quote

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.admin.application import AdminServer, make_app
from gateway.brains import Brains
from gateway.readiness import Readiness
from gateway.record import RequestRecord
from gateway.telemetry import Telemetry
from routing.decision import Decision
from routing.fleet import Endpoint, Fleet, ServedModel
from routing.policies import make_policy
from routing.prefix.index import PrefixIndex
from routing.receipts import Receipts
from routing.request import Request
from routing.router import Router, RouterSettings


@dataclass
class Room:
    """A running admin server, its insides, and a client for it."""

    router: Router
    telemetry: Telemetry
    readiness: Readiness
    receipts: Receipts
    client: aiohttp.ClientSession
    server: AdminServer

    async def json(self, path: str, status: int = 200) -> object:
        """The JSON page at a path, which must come with this status."""
        async with self.client.get(path) as response:
            assert response.status == status, await response.text()
            assert response.content_type == "application/json"
            return await response.json()

    def routed(self, request_id: str, at: float, *, over: bool = True) -> Decision:
        """A decision whose request left at once, unless it is still in flight."""
        decision = self.router.route(Request(request_id, "m"), at)
        assert isinstance(decision, Decision)
        if over:
            self.router.abandoned(decision, at)
            self.receipts.observe(decision)
        return decision


@asynccontextmanager
async def room(names: Iterable[str] = ("a", "b"), sample: float = 1.0) -> AsyncIterator[Room]:
    """A started gateway's admin server with healthy endpoints."""
    fleet = Fleet()
    for name in names:
        fleet.upsert(Endpoint(name, f"http://{name}:80"), 0.0)
        fleet.observe_models(name, [ServedModel("m")], 0.0)
        fleet.observe_health(name, True, 0.0, "test")
    receipts = Receipts(64, sample)
    router = Router(
        fleet,
        PrefixIndex(1 << 20),
        make_policy("round_robin"),
        RouterSettings(),
        receipts=receipts,
    )
    telemetry, readiness = Telemetry(), Readiness()
    readiness.ready()
    now = asyncio.get_running_loop().time
    app = make_app(Brains({"default": router}), telemetry, readiness, now)
    server = AdminServer(app, "127.0.0.1", 0)
    await server.start()
    try:
        base = f"http://127.0.0.1:{server.port}"
        async with aiohttp.ClientSession(base, timeout=aiohttp.ClientTimeout(10)) as client:
            yield Room(router, telemetry, readiness, receipts, client, server)
    finally:
        await server.stop()


async def test_metrics_parse_and_tell_of_requests_fleet_and_process() -> None:
    async with room() as admin:
        admin.telemetry.started()
        admin.telemetry.finished(
            RequestRecord("1", "127.0.0.1", "GET", "/v1/models", 0.0, api="models", status=200)
        )
        async with admin.client.get("/metrics") as response:
            assert response.status == 200
            assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            text = await response.text()
    families = [family.name for family in text_string_to_metric_families(text)]
    assert len(families) == len(set(families))
    assert "process_resident_memory_bytes" in families
    assert 'inferway_requests_total{api="models",model="",status="200"} 1.0' in text
    assert 'inferway_endpoint_healthy{endpoint="b",pool="default"} 1.0' in text


async def test_the_process_is_alive_also_when_it_is_not_ready() -> None:
    async with room(()) as admin:
        async with admin.client.get("/healthz") as response:
            assert (response.status, await response.text()) == (200, "ok\n")


async def test_ready_is_started_and_not_draining_and_someone_healthy() -> None:
    async with room() as admin:
        assert await admin.json("/readyz") == {
            "ready": True,
            "state": "ready",
            "reasons": [],
            "healthy_endpoints": 2,
            "endpoints": 2,
        }
        for name in ("a", "b"):
            admin.router.fleet.observe_health(name, False, 1.0, "test")
        page = await admin.json("/readyz", 503)
        assert isinstance(page, dict)
        assert page["reasons"] == ["none of the 2 endpoints is healthy"]
        admin.readiness.draining("stopping")
        page = await admin.json("/readyz", 503)
        assert isinstance(page, dict)
        assert (page["ready"], page["state"]) == (False, "draining")
        assert page["reasons"] == ["stopping", "none of the 2 endpoints is healthy"]


async def test_endpoints_are_shown_in_order() -> None:
    async with room() as admin:
        page = await admin.json("/debug/endpoints")
    assert isinstance(page, list)
    assert [(each["name"], each["health"]["state"]) for each in page] == [
        ("a", "healthy"),
        ("b", "healthy"),
    ]


async def test_decisions_are_shown_newest_first_and_no_more_than_asked_for() -> None:
    async with room() as admin:
        for number in range(30):
            admin.routed(str(number), float(number))

        async def ids(query: str) -> list[str]:
            page = await admin.json(f"/debug/decisions{query}")
            assert isinstance(page, list)
            return [decision["id"] for decision in page]

        assert await ids("?limit=2") == ["29", "28"]
        assert len(await ids("")) == 20
        assert len(await ids("?limit=999999")) == 30


@pytest.mark.parametrize("limit", ["0", "-1", "x", "", "1.5", "1" * 5_000, "%C2%B2"])
async def test_a_limit_that_is_no_number_is_refused(limit: str) -> None:
    async with room() as admin:
        page = await admin.json(f"/debug/decisions?limit={limit}", 400)
        assert isinstance(page, dict)
        assert "give a whole number" in page["error"]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("endpont=a", "no parameter 'endpont'"),
        ("outcome=lost", "give one of done, failed, abandoned, in_flight"),
        ("slow=soon", "give seconds"),
        ("surprising=perhaps", "give true or false"),
    ],
)
async def test_a_filter_that_makes_no_sense_is_refused(query: str, said: str) -> None:
    async with room() as admin:
        page = await admin.json(f"/debug/decisions?{query}", 400)
        assert isinstance(page, dict)
        assert said in page["error"]


async def test_decisions_are_filtered() -> None:
    async with room() as admin:
        now = asyncio.get_running_loop().time()
        admin.routed("left", now)
        admin.routed("waits", now - 30.0, over=False)

        async def ids(query: str) -> list[str]:
            page = await admin.json(f"/debug/decisions?{query}")
            assert isinstance(page, list)
            return [decision["id"] for decision in page]

        assert await ids("") == ["left", "waits"]
        assert await ids("outcome=abandoned") == ["left"]
        assert await ids("outcome=in_flight") == ["waits"]
        assert await ids("slow=29.5") == ["waits"]
        assert await ids("surprising=true") == []
        assert await ids("endpoint=a") + await ids("endpoint=b") == ["left", "waits"]


@pytest.mark.parametrize("request_id", ["plain", "a/b c?d=%2F#e", "ü"])
async def test_one_decision_is_found_by_its_id(request_id: str) -> None:
    async with room() as admin:
        admin.routed("another", 1.0)
        admin.routed(request_id, 2.0, over=False)
        page = await admin.json(f"/debug/decisions/{quote(request_id, safe='')}")
        assert isinstance(page, dict)
        assert (page["id"], page["outcome"], len(page["candidates"])) == (request_id, None, 2)


async def test_an_unknown_id_is_told_what_is_kept() -> None:
    async with room() as admin:
        page = await admin.json("/debug/decisions/nope", 404)
        assert page == {
            "error": "no receipt of a request 'nope': kept are the latest 64 that ended, "
            "and as many that failed, were retried or surprised"
        }
        admin.routed("1", asyncio.get_running_loop().time() - 90.0)
        page = await admin.json("/debug/decisions/nope", 404)
        assert isinstance(page, dict) and page["error"].endswith("; the oldest is 90 s old")
    async with room(sample=0.0) as admin:
        page = await admin.json("/debug/decisions/nope", 404)
        assert isinstance(page, dict)
        assert "kept are 0 of all, chosen by id: the latest 64" in page["error"]
        assert page["error"].endswith("; this id is not among the chosen")


async def test_many_decisions_are_written_without_holding_up_others() -> None:
    async with room() as admin:
        for number in range(120):
            admin.routed(str(number), float(number), over=False)
        page = await admin.json("/debug/decisions?limit=999")
        assert isinstance(page, list) and len(page) == 120


async def test_a_taken_port_is_an_error_and_stopping_stays_harmless() -> None:
    async with room() as admin:
        app = make_app(
            Brains({"default": admin.router}),
            admin.telemetry,
            admin.readiness,
            lambda: 0.0,
        )
        other = AdminServer(app, "127.0.0.1", admin.server.port)
        await other.stop()  # nothing started yet
        with pytest.raises(OSError, match="in use"):
            await other.start()
        await other.stop()
