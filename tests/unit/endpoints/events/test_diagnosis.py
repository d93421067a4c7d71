from endpoints.events.diagnosis import Diagnosis, Surroundings
from endpoints.events.health import FeedHealth
from endpoints.events.source import EventSource

SOURCE = EventSource("pod", 0, "tcp://10.0.0.1:5557")
URL = "http://10.0.0.1:8000"


def around(requests: int = 0, connected: bool = True, **more: object) -> Surroundings:
    return Surroundings(URL, requests, connected=connected, **more)  # type: ignore[arg-type]


def diagnosis() -> Diagnosis:
    return Diagnosis(SOURCE, now=0.0, silent_after=60.0)


def test_a_healthy_stream_has_no_complaints() -> None:
    judge = diagnosis()
    for second in range(0, 600, 10):
        health = FeedHealth(messages=second, stored_events=second, unknown_parents=second // 5)
        facts = around(second, block_tokens=16, view_block_tokens=16, topic="kv@10.0.0.1@m")
        assert judge.complaints(health, facts, float(second)) == {}


def test_silence_counts_only_where_requests_went() -> None:
    judge, health = diagnosis(), FeedHealth()
    assert judge.complaints(health, around(0), 0.0) == {}
    assert judge.complaints(health, around(5), 100.0) == {}  # too few to fill a block, perhaps
    found = judge.complaints(health, around(50), 200.0)
    assert "sent no event for 60 s" in found["events silence"]
    assert found == judge.complaints(health, around(90), 210.0)  # the same words
    health.messages = 1
    assert judge.complaints(health, around(91), 211.0) == {}
    assert judge.complaints(health, around(200), 220.0) == {}
    assert "events silence" in judge.complaints(health, around(200), 300.0)


def test_a_missing_connection_is_named_with_its_address() -> None:
    judge = diagnosis()
    assert judge.complaints(FeedHealth(), around(connected=False), 30.0) == {}
    found = judge.complaints(FeedHealth(), around(connected=False), 61.0)
    assert "tcp://10.0.0.1:5557" in found["events connection"]
    assert judge.complaints(FeedHealth(), around(), 62.0) == {}
    assert judge.complaints(FeedHealth(), around(connected=False), 100.0) == {}


def test_the_topic_of_another_server() -> None:
    found = diagnosis().complaints(FeedHealth(), around(topic="kv@10.0.0.9@m"), 1.0)
    assert "10.0.0.9" in found["events topic"]


def test_block_sizes_that_differ() -> None:
    facts = around(block_tokens=16, view_block_tokens=64)
    assert (
        "64 tokens, metrics 16"
        in (diagnosis().complaints(FeedHealth(), facts, 1.0)["events block size"])
    )
    health = FeedHealth(foreign_block_tokens=32)
    facts = around(block_tokens=16, view_block_tokens=16)
    assert "32 and of 16" in diagnosis().complaints(health, facts, 1.0)["events block size"]


def test_all_events_of_layers_that_are_left_out() -> None:
    some = FeedHealth(stored_events=100, unsupported_groups=50)
    assert diagnosis().complaints(some, around(), 1.0) == {}
    every = FeedHealth(stored_events=100, unsupported_groups=100)
    assert "events groups" in diagnosis().complaints(every, around(), 1.0)


def test_parents_that_stay_unknown() -> None:
    judge = diagnosis()
    bad = FeedHealth(stored_events=100, unknown_parents=80)
    assert "events parents" in judge.complaints(bad, around(), 1.0)
    few = FeedHealth(stored_events=101, unknown_parents=80)
    assert "events parents" in judge.complaints(few, around(), 2.0)  # no news to judge by
    well = FeedHealth(stored_events=200, unknown_parents=81)
    assert judge.complaints(well, around(), 3.0) == {}


def test_messages_and_media_that_are_not_understood() -> None:
    health = FeedHealth(undecodable=1)
    health.unknown_media["tape"] = 4
    found = diagnosis().complaints(health, around(), 1.0)
    assert "can't be read" in found["events messages"]
    assert "'tape'" in found["events media"]
