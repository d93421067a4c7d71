"""What a replay can be told."""

from dataclasses import dataclass, field

from bench.replay.faults import NO_FAULT, Fault
from bench.replay.presets import PRESETS, EngineSettings
from routing.router import RouterSettings

DEFAULT_PRESET = "70b-h100x4"


@dataclass(frozen=True, slots=True)
class ReplaySettings:
    """The fleet, and what the router learns of it and when. Times in seconds.

    - ``endpoints`` of the same ``engine``;
    - ``speed``: arrivals come so many times as fast as recorded;
    - ``seed``: moves each arrival by up to half the gap to the next one, and draws for policies
      and faults that draw;
    - ``scrape_interval``, ``scrape_delay``: how often an engine is scraped, and how long the
      answer takes;
    - ``events``: whether engines report their caches, and the gateway knows prompts as the tokens
      that the reports are about; each change is known ``event_lag`` after its step;
    - ``progress_interval``: how often the router is told how far the answers are;
    - ``sample_interval``: between samples of the engines' states in the result;
    - ``roles``: the role label of each endpoint, "" for none; endpoints beyond them have none;
    - ``kv_bytes``: of one token's KV cache; ``link_rate`` (bytes/s): what an endpoint can send, and
      what it can receive, one transfer after the other; ``link_latency``: of each;
    - ``kv_lease``: how long KV waits to be read by another endpoint before it is dropped;
    - ``horizon``: how long after the last arrival requests may still finish; what has not
      finished then is told as such.
    """

    endpoints: int = 8
    engine: EngineSettings = PRESETS[DEFAULT_PRESET]
    speed: float = 1.0
    seed: int = 0
    scrape_interval: float = 0.2
    scrape_delay: float = 0.01
    events: bool = True
    event_lag: float = 0.01
    fault: Fault = NO_FAULT
    router: RouterSettings = field(default_factory=lambda: RouterSettings(receipts=16))
    prefix_index_bytes: int = 256 << 20
    progress_interval: float = 1.0
    sample_interval: float = 5.0
    horizon: float = 600.0
    roles: tuple[str, ...] = ()
    kv_bytes: float = 327_680.0  # of the 70B model of the default preset
    link_rate: float = 25e9
    link_latency: float = 0.005
    kv_lease: float = 120.0

    def __post_init__(self) -> None:
        if self.endpoints < 1:
            raise ValueError(f"endpoints is {self.endpoints}; it must be at least 1")
        for name in ("speed", "scrape_interval", "progress_interval", "sample_interval"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")
        for name in ("scrape_delay", "event_lag", "horizon"):
            if not getattr(self, name) >= 0.0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must not be negative")
