"""What every connection and exchange of a proxy shares."""

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from gateway.admission import Admissions
from gateway.brains import Brains
from gateway.proxy.cors import Cors
from gateway.proxy.kvfacts import KvFacts
from gateway.proxy.pairing import Pairing
from gateway.proxy.patience import Patience
from gateway.proxy.pool import Pools
from gateway.record import RequestRecord
from gateway.routes.edits import FieldEdits
from gateway.settings import Objective, ProxySettings
from gateway.telemetry import Telemetry
from gateway.tokenizing.service import TokenizingService
from gateway.waiting import WaitingRooms
from routing.request import Request


@dataclass(slots=True)
class ProxyContext:
    """The brains, the way to the endpoints, the books, and whether we are leaving."""

    brains: Brains
    pools: Pools
    telemetry: Telemetry
    settings: ProxySettings
    log_request: Callable[[RequestRecord], None]
    log_traffic: Callable[[RequestRecord, Request], object] | None = None
    tokenizing: TokenizingService | None = None
    objectives: Mapping[str, Objective] = field(default_factory=dict)
    created: int = 0  # Unix time in seconds at which the gateway started
    cors: Cors = field(default_factory=Cors)
    draining: bool = False
    waiting: WaitingRooms | None = None
    """Where requests wait for pools that have no endpoint yet; None: nowhere."""
    admissions: Admissions | None = None
    """Where requests wait while pools are busy; None: nowhere, engines queue them."""
    dice: random.Random = field(default_factory=random.Random)
    now: Callable[[], float] = time.monotonic
    keeps_host: bool = False
    """Whether endpoints are told the host that the client named, instead of their own."""
    edits: FieldEdits | None = None
    """What routes change in responses' heads."""
    pairing: Pairing | None = None
    """Of a sidecar: requests are not routed but paired with what they name."""
    patience: Patience = field(init=False)
    """How long prefill legs are waited for."""
    kv_facts: KvFacts = field(init=False)
    """What prefill servers tell of themselves."""

    def __post_init__(self) -> None:
        self.patience = Patience(self.settings.prefill_patience, self.settings.prefill_grace)
        self.kv_facts = KvFacts(self.pools)

    @property
    def overloaded(self) -> bool:
        """Whether more requests are in flight than there may be, the one that asks included."""
        return self.telemetry.in_flight > self.settings.max_concurrent_requests

    def request_id(self) -> str:
        """A new id: 64 random bits, enough to tell requests apart in logs and engines."""
        return self.dice.getrandbits(64).to_bytes(8, "big").hex()

    def finished(self, record: RequestRecord) -> None:
        """Book one finished request."""
        self.telemetry.finished(record)
        self.log_request(record)
