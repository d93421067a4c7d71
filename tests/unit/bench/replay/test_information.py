"""What reaches the router of an engine's cache and load, and when."""

import dataclasses
from math import inf
from random import Random

import pytest

from bench.fleet.engine.cache import Tier as CacheTier
from bench.fleet.settings import Timing
from bench.replay.engine import Engine
from bench.replay.faults import NO_FAULT, Fault
from bench.replay.information import CacheReports, frozen, scrape
from bench.replay.job import Job
from bench.replay.presets import EngineSettings
from bench.replay.timeline import Timeline
from routing.prefix.residency import Residency, Tier

SIZE = 512


class Heard:
    """A view of caches that is fed through reports."""

    def __init__(self, fault: Fault = NO_FAULT, lag: float = 0.01) -> None:
        self.timeline = Timeline()
        self.residency = Residency(1 << 20)
        self.reports = CacheReports("a", SIZE, self.residency, self.timeline, lag, fault, Random(1))

    def store(self, *blocks: int, tier: CacheTier = CacheTier.GPU) -> None:
        for block in blocks:
            self.reports.stored(block, tier)

    def wait(self, until: float) -> None:
        while self.timeline.step(until):
            pass

    @property
    def blocks(self) -> int:
        return self.residency.blocks("a")


def test_an_endpoint_that_reports_is_known_to_hold_nothing_at_first() -> None:
    heard = Heard()
    assert heard.residency.covers("a")
    assert heard.blocks == 0


def test_changes_arrive_together_after_the_lag() -> None:
    heard = Heard(lag=0.5)
    heard.store(1, 2, 3)
    heard.wait(0.6)
    assert heard.blocks == 0  # nothing was published yet
    heard.reports.publish()
    heard.wait(0.49)
    assert heard.blocks == 0
    heard.wait(0.51)
    assert heard.blocks == 3


def test_order_within_a_report_is_kept() -> None:
    heard = Heard()
    heard.store(1, 2)
    heard.reports.removed(1, CacheTier.GPU)
    heard.store(1, tier=CacheTier.CPU)
    heard.reports.removed(2, CacheTier.GPU)
    heard.store(2)
    heard.reports.publish()
    heard.wait(1.0)
    assert heard.residency.blocks_in("a", Tier.GPU) == 1
    assert heard.residency.blocks_in("a", Tier.CPU) == 1
    heard.store(5)
    heard.reports.cleared()
    heard.store(6)
    heard.reports.publish()
    heard.wait(2.0)
    assert heard.blocks == 1


def test_an_engine_that_is_gone_reports_no_more() -> None:
    heard = Heard()
    heard.store(1)
    heard.reports.publish()
    heard.reports.close()
    heard.wait(1.0)
    assert heard.blocks == 0


def test_some_reports_are_lost() -> None:
    heard = Heard(Fault("", lost_events=0.5))
    for block in range(1_000):
        heard.store(block)
        heard.reports.publish()
    heard.wait(1.0)
    assert 400 < heard.blocks < 600


def test_some_reports_are_overtaken() -> None:
    heard = Heard(Fault("", reordered_events=0.5))
    for block in range(1_000):
        heard.store(block)
        heard.reports.publish()
    heard.wait(0.011)
    assert 400 < heard.blocks < 600
    heard.wait(1.011)
    assert heard.blocks == 1_000


def test_a_scrape_tells_what_is_there() -> None:
    timing = Timing(step_base=1.0, prefill_token=0.0, decode_sequence=0.0)
    engine = Engine(EngineSettings(timing, cache_tokens=10 * SIZE, max_sequences=1), SIZE)
    engine.submit(Job(0, (1, 2), 3 * SIZE, 5), 0.0)
    engine.submit(Job(1, (1, 2), 3 * SIZE, 5), 0.0)
    load = scrape(engine, 0.5, 100, 40)
    assert (load.at, load.running, load.waiting, load.kv_usage) == (0.5, 1.0, 1.0, 0.3)
    assert load.cache_tokens == 10 * SIZE
    assert (load.prefix_queried_tokens, load.prefix_hit_tokens) == (100.0, 40.0)


def test_a_frozen_scrape_differs_in_its_time_only() -> None:
    engine = Engine(EngineSettings(Timing(1.0, 0.0, 0.0), cache_tokens=10 * SIZE), SIZE)
    old = scrape(engine, 0.5, 100, 40)
    assert frozen(old, 60.0) == dataclasses.replace(old, at=60.0)


def test_time_goes_on_in_order() -> None:
    timeline = Timeline()
    seen: list[tuple[str, float]] = []

    def see(name: str) -> None:
        seen.append((name, timeline.now))
        if name == "b":
            timeline.at(1.0, see, "late")  # that is over: now

    for at, name in ((2.0, "b"), (1.0, "a"), (2.0, "c"), (inf, "never")):
        timeline.at(at, see, name)
    while timeline.step(100.0):
        pass
    assert seen == [("a", 1.0), ("b", 2.0), ("c", 2.0), ("late", 2.0)]
    assert timeline.now == pytest.approx(2.0)
