"""Envoy's requests stand in the same line: the choice is withheld until there is room."""

import asyncio

from gateway.admission import Admission, Admissions
from gateway.settings import AdmissionSettings, Objective
from routing.endpoint import Load
from tests.support.gateways import chat, until
from tests.support.processing import CHAT, Envoy
from tests.support.processors import ProcessorUnderTest, processor

A = "10.0.0.1:8000"


def lined(**settings: float) -> tuple[ProcessorUnderTest, Admission]:
    made = processor([f"http://{A}"])
    admissions = Admissions(AdmissionSettings(**settings), made.context.now)  # type: ignore[arg-type]
    admissions.add("test", made.router)
    made.context.admissions = admissions
    made.context.objectives = {"batch": Objective(priority=-1)}
    line = admissions.of(made.router)
    assert line is not None
    return made, line


def waiting(made: ProcessorUnderTest, requests: float) -> None:
    made.router.fleet.observe_load(A, Load(at=made.context.now(), waiting=requests))


async def test_the_choice_waits_for_room() -> None:
    made, line = lined()
    waiting(made, 9)
    envoy = Envoy(made)
    envoy.request()
    assert envoy.body(chat(), ends=True) == []
    assert len(line.queue) == 1
    waiting(made, 0)
    await until(lambda: len(line.queue) == 0)
    head, chunk = envoy.replies()
    assert head.destination == A
    assert chunk.chunk == chat()
    assert made.in_flight == 1
    envoy.session.over()
    assert made.in_flight == 0
    assert made.records[0].waited_seconds is not None


async def test_a_negative_priority_is_queued_not_shed() -> None:
    made, line = lined()
    waiting(made, 9)
    envoy = Envoy(made)
    envoy.request({**CHAT, "x-gateway-inference-objective": "batch"})
    assert envoy.body(chat(), ends=True) == []
    entry = line.queue.oldest
    assert entry is not None
    assert entry.priority == -1
    envoy.session.over()
    assert len(line.queue) == 0
    assert made.context.held_bytes == 0


async def test_impatience_is_told_in_the_reference_pickers_words() -> None:
    made, _ = lined(patience=0.02)
    waiting(made, 9)
    envoy = Envoy(made)
    envoy.request()
    envoy.body(chat(), ends=True)
    await asyncio.sleep(0.1)
    (reply,) = envoy.replies()
    status, fields, body = reply.answer
    assert status == 503
    assert fields["x-llm-d-request-dropped-reason"] == b"rejected-ttl-expired"
    assert b"admission_timeout" in body
    assert envoy.finished == 1


async def test_a_full_line_is_429() -> None:
    made, _ = lined(max_requests=1)
    waiting(made, 9)
    first, second = Envoy(made), Envoy(made)
    first.request()
    assert first.body(chat(), ends=True) == []
    second.request()
    (reply,) = second.body(chat(), ends=True)
    status, fields, _ = reply.answer
    assert status == 429
    assert fields["x-llm-d-request-dropped-reason"] == b"rejected-saturated"
    first.session.over()
