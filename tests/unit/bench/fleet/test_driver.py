"""Steps pass in real time, and a slow machine does not make a slow server."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from bench.fleet.engine.driver import Driver
from bench.fleet.engine.output import Output
from bench.fleet.engine.scheduler import Engine
from bench.fleet.engine.sequence import Sequence
from bench.fleet.engine.tokens import tokens_of
from bench.fleet.settings import Behaviour, ServerSettings, Timing

STEP = 0.004


@pytest.fixture
def engine() -> Engine:
    timing = Timing(step_base=STEP, prefill_token=0, decode_sequence=0)
    return Engine(ServerSettings(behaviour=Behaviour(timing=timing)))


@pytest.fixture
async def driver(engine: Engine) -> AsyncIterator[Driver]:
    driver = Driver(engine)
    driver.start()
    yield driver
    await driver.stop()


def submit(driver: Driver, answer: int, tokens: int = 4) -> tuple[Sequence, asyncio.Event]:
    """A sequence in flight, and the event of its end."""
    ended = asyncio.Event()

    def notify() -> None:
        if sequence.finish is not None:
            ended.set()

    sequence = Sequence(
        prompt=tokens_of(range(tokens)),
        output=Output((1,), answer, "stop"),
        model="base",
        adapter=False,
        arrival=driver.now(),
        block_size=16,
        notify=notify,
    )
    driver.submit(sequence)
    return sequence, ended


async def test_tokens_take_their_time(engine: Engine, driver: Driver) -> None:
    begun = driver.now()
    _, ended = submit(driver, answer=10)
    await asyncio.wait_for(ended.wait(), 5)
    # Timers of event loops are exact to a millisecond or so.
    assert driver.now() - begun >= 10 * STEP - 0.002
    assert not engine.busy


async def test_a_blocked_loop_delays_tokens_but_not_the_model(
    engine: Engine, driver: Driver
) -> None:
    sequence, ended = submit(driver, answer=20)
    await asyncio.sleep(0)
    time.sleep(6 * STEP)  # noqa: ASYNC251 - the machine is busy with something else
    await asyncio.wait_for(ended.wait(), 5)
    latency = engine.stats.inter_token_latency
    assert latency.sum == pytest.approx(19 * STEP)
    assert sequence.last_token_at is not None
    assert sequence.last_token_at - sequence.arrival == pytest.approx(20 * STEP)


async def test_an_idle_engine_begins_with_the_arrival(engine: Engine, driver: Driver) -> None:
    for _ in range(2):
        sequence, ended = submit(driver, answer=1)
        await asyncio.wait_for(ended.wait(), 5)
        assert sequence.scheduled_at is not None
        assert sequence.scheduled_at - sequence.arrival <= STEP
        assert sequence.first_token_at is not None
        assert sequence.first_token_at - sequence.scheduled_at == pytest.approx(STEP)
    assert engine.stats.queue.count == 2


async def test_an_abort_is_done_when_it_returns(engine: Engine, driver: Driver) -> None:
    sequence, ended = submit(driver, answer=1000)
    while not sequence.generated:
        await asyncio.sleep(0.001)
    driver.abort(sequence)
    assert ended.is_set()
    assert (engine.running, engine.cache.pinned) == ([], 0)
    _, later = submit(driver, answer=1)
    await asyncio.wait_for(later.wait(), 5)


async def test_stopping_twice_is_fine(engine: Engine) -> None:
    driver = Driver(engine)
    driver.start()
    await driver.stop()
    await driver.stop()
