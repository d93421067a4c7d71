"""Mutated HTTP/1.1 from either side; bench/fuzz says what is judged and fuzzes for longer."""

import asyncio
from collections.abc import Iterator

import pytest
import uvloop
from hypothesis import HealthCheck, example, given, settings

from bench.fuzz.mutations import Said, client_inputs, endpoint_outputs, honest_inputs
from bench.fuzz.scene import DefectError, stage
from bench.fuzz.server import OK, Answer
from bench.fuzz.strict import RequestReader, read_responses, reference_reading
from bench.fuzz.trial import try_client, try_endpoint, try_honest_client

BODY = b'{"model":"sim-8b","prompt":"hi"}'
HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: g\r\n"
SIZED = HEAD + b"Content-Length: 32\r\n\r\n" + BODY
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n20\r\n" + BODY + b"\r\n0\r\n\r\n"
ANSWERED = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"

fuzzing = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as running:
        yield running


@settings(fuzzing, max_examples=300)
@given(said=client_inputs)
@example(said=Said(SIZED * 2, (1, 50)))
@example(
    said=Said(HEAD + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\n{}", ())
)
@example(
    said=Said(HEAD.replace(b"POST", b"HEAD") + b"Connection: Upgrade\r\nUpgrade: x\r\n\r\n", ())
)
@example(said=Said(CHUNKED.replace(b"0\r\n\r\n", b"0\r\nHost: a\r\nx-evil: 1\r\n\r\n") + SIZED, ()))
def test_whatever_a_client_says_it_is_answered_or_refused_and_nothing_malformed_goes_on(
    runner: asyncio.Runner, said: Said
) -> None:
    runner.run(try_client(said))


@settings(fuzzing, max_examples=100)
@given(said=honest_inputs)
def test_well_formed_requests_are_served_whatever_pieces_they_come_in(
    runner: asyncio.Runner, said: Said
) -> None:
    runner.run(try_honest_client(said))


@settings(fuzzing, max_examples=150)
@given(said=endpoint_outputs)
@example(said=Said(ANSWERED + ANSWERED, (40,)))
@example(said=Said(ANSWERED.replace(b"OK\r\n", b"OK\r\nTransfer-Encoding: chunked\r\n"), ()))
@example(said=Said(ANSWERED.replace(b"1.1", b"2.0"), ()))
@example(said=Said(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nx-a: b\r\n\r\n", ()))
def test_whatever_an_endpoint_says_clients_get_well_formed_responses_of_their_own(
    runner: asyncio.Runner, said: Said
) -> None:
    runner.run(try_endpoint(said))


# --- the judges can fail ------------------------------------------------------------------------


def test_a_client_left_without_an_answer_is_a_hang(
    runner: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.fuzz.scene._BOUND", 0.2)

    async def unanswered() -> None:
        async with stage(lambda _: Answer(())) as scene:
            await scene.say(Said(SIZED, ()), due=1, methods=[b"POST"])

    with pytest.raises(DefectError, match="hang"):
        runner.run(unanswered())


def test_what_is_raised_into_the_event_loop_is_noticed(runner: asyncio.Runner) -> None:
    async def raising() -> None:
        async with stage(lambda _: OK):
            asyncio.get_running_loop().call_soon(lambda: 1 // 0)
            await asyncio.sleep(0)

    with pytest.raises(DefectError, match="ZeroDivisionError"):
        runner.run(raising())


def test_a_task_that_is_left_is_noticed(
    runner: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.fuzz.scene._BOUND", 0.2)

    async def leaving() -> None:
        async with stage(lambda _: OK):
            forgotten = asyncio.ensure_future(asyncio.sleep(60))
        forgotten.cancel()

    with pytest.raises(DefectError, match="tasks are left"):
        runner.run(leaving())


@pytest.mark.parametrize(
    ("sent", "whole", "refused", "partial"),
    [
        (SIZED, 1, False, False),
        (SIZED + CHUNKED, 2, False, False),
        (b"\r\n" + SIZED + b"\r\n", 1, False, False),
        (SIZED[:-1], 0, False, True),
        (SIZED + b"\x00", 1, True, False),
        (SIZED + HEAD + b"Content-Length: x\r\n\r\n", 1, True, False),
        (CHUNKED.replace(b"20\r\n", b"zz\r\n"), 0, True, False),
        (SIZED.replace(b"Host", b"Connection: close\r\nHost") + SIZED, 1, False, False),
    ],
)
def test_the_reference_says_what_a_client_sent(
    sent: bytes, whole: int, refused: bool, partial: bool
) -> None:
    reference = reference_reading(sent)
    assert [request.body for request in reference.requests] == [BODY] * whole
    assert (reference.refused, reference.partial) == (refused, partial)


def test_the_readers_do_not_care_how_bytes_are_cut() -> None:
    reader = RequestReader(grammar=True)
    read = [request for at in range(len(SIZED)) for request in reader.feed(SIZED[at : at + 1])]
    assert read == RequestReader(grammar=True).feed(SIZED)
    assert [response.body for response in read_responses(ANSWERED * 2, [], closed=False)] == [
        b"{}",
        b"{}",
    ]
