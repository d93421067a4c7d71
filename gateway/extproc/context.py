"""What every request that comes through Envoy shares."""

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from endpoints.discovery.kubernetes.rules import PoolRules
from gateway.admission import Admissions
from gateway.extproc.addresses import AddressBook
from gateway.extproc.pools import PickerPools
from gateway.pickerbooks import PickerBooks
from gateway.record import RequestRecord
from gateway.settings import ExtProcSettings, Objective
from gateway.telemetry import Telemetry
from gateway.tokenizing.service import TokenizingService
from routing.request import Request
from routing.router import Router


@dataclass(slots=True)
class ProcessorContext:
    """The brain, the endpoints' addresses, the books, and whether we are leaving.

    ``pools``: those that requests are for, each with a brain of its own; None: there is one.
    """

    router: Router
    book: AddressBook
    telemetry: Telemetry
    books: PickerBooks
    settings: ExtProcSettings
    log_request: Callable[[RequestRecord], None]
    log_traffic: Callable[[RequestRecord, Request], object] | None = None
    tokenizing: TokenizingService | None = None
    pools: PickerPools | None = None
    admissions: Admissions | None = None
    """Where requests wait while pools are busy; None: nowhere, engines queue them."""
    objectives: Mapping[str, Objective] = field(default_factory=dict)
    internal_fields: Literal["strip", "refuse"] = "strip"
    max_json_depth: int | None = None
    created: int = 0  # Unix time in seconds at which the gateway started
    held_bytes: int = 0
    """Of request bodies that wait for a decision."""
    dice: random.Random = field(default_factory=random.Random)
    now: Callable[[], float] = time.monotonic

    @property
    def overloaded(self) -> bool:
        """Whether more requests are in flight than there may be, the one that asks included."""
        return self.telemetry.in_flight > self.settings.max_concurrent_requests

    def request_id(self) -> str:
        """A new id: 64 random bits, enough to tell requests apart in logs and engines."""
        return f"{self.dice.getrandbits(64):016x}"

    def target_of(self, model: str) -> str:
        """The model that a request for ``model`` goes to: drawn by weight where it is rewritten."""
        targets = self.settings.rewrites.get(model)
        if not targets:
            return model
        return self.dice.choices(list(targets), list(targets.values()))[0]

    def rules_of(self, router: Router) -> PoolRules | None:
        """What the objects of a router's pool say of requests; None: nothing."""
        return None if self.pools is None else self.pools.brains.rules_of(router)

    def finished(self, record: RequestRecord) -> None:
        """Book one finished request."""
        self.telemetry.finished(record)
        self.log_request(record)
