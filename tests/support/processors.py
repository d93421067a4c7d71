"""An external processor over a real router, without probes: tests say who is healthy."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec

from gateway.extproc.addresses import AddressBook
from gateway.extproc.context import ProcessorContext
from gateway.extproc.server import ExtProcServer
from gateway.pickerbooks import PickerBooks
from gateway.readiness import Readiness
from gateway.record import RequestRecord
from gateway.settings import ExtProcSettings
from gateway.telemetry import Telemetry
from routing.fleet import Endpoint, Fleet, ServedModel
from routing.policies import make_policy
from routing.prefix.index import PrefixIndex
from routing.router import Router, RouterSettings
from tests.support.gateways import MODEL


@dataclass
class ProcessorUnderTest:
    """A processor and its insides."""

    context: ProcessorContext
    records: list[RequestRecord]
    readiness: Readiness = field(default_factory=Readiness)
    server: ExtProcServer | None = None

    @property
    def router(self) -> Router:
        """The brain."""
        return self.context.router

    @property
    def port(self) -> int:
        """Where Envoy connects."""
        assert self.server is not None
        return self.server.port

    @property
    def in_flight(self) -> int:
        """Reservations in all ledgers."""
        return sum(state.ledger.requests for state in self.router.fleet)


def processor(
    urls: Sequence[str],
    *,
    policy: str = "round_robin",
    models: Sequence[str] = (MODEL,),
    brain: RouterSettings | None = None,
    internal_fields: Any = "strip",
    **settings: Any,
) -> ProcessorUnderTest:
    """A context before the given endpoints, all healthy and serving `MODEL`."""
    fleet = Fleet()
    for url in urls:
        name = url.removeprefix("http://")
        fleet.upsert(Endpoint(name=name, url=url), 0.0)
        fleet.observe_models(name, [ServedModel(model) for model in models], 0.0)
        fleet.observe_health(name, True, 0.0, "test")
    router = Router(fleet, PrefixIndex(16 << 20), make_policy(policy), brain or RouterSettings())
    records: list[RequestRecord] = []
    context = ProcessorContext(
        router=router,
        book=AddressBook(fleet),
        telemetry=Telemetry(fleet.knows),
        books=PickerBooks("test"),
        settings=msgspec.structs.replace(ExtProcSettings(port=0), **settings),
        log_request=records.append,
        internal_fields=internal_fields,
    )
    return ProcessorUnderTest(context, records)


@asynccontextmanager
async def running_processor(
    urls: Sequence[str], **options: Any
) -> AsyncIterator[ProcessorUnderTest]:
    """The same, listening; at its end nothing may be reserved any more."""
    made = processor(urls, **options)
    made.readiness.ready()
    made.server = ExtProcServer(made.context, made.readiness)
    await made.server.start()
    try:
        yield made
        await asyncio.sleep(0)
    finally:
        await made.server.stop()
    assert made.in_flight == 0
    assert made.context.held_bytes == 0
    assert made.context.telemetry.in_flight == 0
