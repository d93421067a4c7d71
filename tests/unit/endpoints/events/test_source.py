import json
from typing import Any

import pytest

from endpoints.events.settings import EventSettings
from endpoints.events.source import EventSource, sources_of, sources_told, topic_names_other
from routing.endpoint import Endpoint

POD = Endpoint("pod", "http://10.0.0.1:8000")


def test_addresses_are_made_from_the_endpoints_host() -> None:
    settings = EventSettings(replay_address="tcp://{host}:5558", topic="kv@")
    assert sources_of(POD, settings) == (
        EventSource("pod", 0, "tcp://10.0.0.1:5557", "tcp://10.0.0.1:5558", "kv@"),
    )
    six = Endpoint("six", "http://[fd00::1]:8000")
    assert sources_of(six, settings)[0].address == "tcp://[fd00::1]:5557"


def test_the_ports_of_ranks_follow_each_other() -> None:
    settings = EventSettings(ranks=3, replay_address="tcp://{host}:6000")
    found = sources_of(POD, settings)
    assert [source.rank for source in found] == [0, 1, 2]
    assert [source.address[-4:] for source in found] == ["5557", "5558", "5559"]
    assert [(source.replay or "")[-4:] for source in found] == ["6000", "6001", "6002"]
    paths = sources_of(POD, EventSettings(ranks=2, address="ipc:///run/kv"))
    assert [source.address for source in paths] == ["ipc:///run/kv", "ipc:///run/kv_dp1"]


def test_labels_say_it_for_one_endpoint() -> None:
    settings = EventSettings(replay_address="tcp://{host}:5558")
    labels: tuple[tuple[str, str], ...] = (
        ("kv_events", "tcp://{host}:7000"),
        ("kv_events_topic", "mine"),
    )
    assert sources_of(Endpoint("pod", POD.url, labels=labels), settings) == (
        EventSource("pod", 0, "tcp://10.0.0.1:7000", None, "mine"),
    )
    labels += (("kv_events_replay", "tcp://other:7001"),)
    assert sources_of(Endpoint("pod", POD.url, labels=labels), settings)[0].replay == (
        "tcp://other:7001"
    )
    assert sources_of(Endpoint("pod", POD.url, labels=(("kv_events", "off"),)), settings) == ()
    with pytest.raises(ValueError, match=r"label kv_events of 'pod'.*tcp://HOST:PORT"):
        sources_of(Endpoint("pod", POD.url, labels=(("kv_events", "5557"),)), settings)


@pytest.mark.parametrize("address", ["", "5557", "http://x:1", "tcp://x", "tcp://x:0", "tcp://:1"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match=r"^address is"):
        EventSettings(address=address)
    with pytest.raises(ValueError, match="replay_address"):
        EventSettings(replay_address=address)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("ranks", 0),
        ("replay_timeout", -1.0),
        ("view_bytes", 0),
        ("silent_after", float("nan")),
        ("after_loss", "panic"),
        ("replay_address", "tcp://{host}:5557"),
    ],
)
def test_settings_that_cannot_be_are_named(field: str, value: Any) -> None:
    wrong: dict[str, Any] = {field: value}
    with pytest.raises(ValueError, match=field):
        EventSettings(**wrong)


def test_the_engine_can_tell_its_sources() -> None:
    told = {
        "enable_kv_cache_events": True,
        "publisher": "zmq",
        "endpoint": "tcp://*:18110",
        "replay_endpoint": "tcp://*:18111",
        "buffer_steps": 10000,
        "topic": "kv@x",
    }
    page = json.dumps({"1": told | {"replay_endpoint": None}, "0": told}).encode()
    assert sources_told(page, POD) == (
        EventSource("pod", 0, "tcp://10.0.0.1:18110", "tcp://10.0.0.1:18111", "kv@x"),
        EventSource("pod", 1, "tcp://10.0.0.1:18110", None, "kv@x"),
    )
    assert sources_told(json.dumps({"0": told | {"publisher": "null"}}).encode(), POD) == ()
    assert sources_told(b"{}", POD) == ()
    for page in (b"[]", b"<html>", b'{"x": {}}'):
        with pytest.raises(ValueError, match="event sources"):
            sources_told(page, POD)


@pytest.mark.parametrize(
    ("topic", "url", "other"),
    [
        ("kv@10.0.0.2@m", "http://10.0.0.1:8000", "10.0.0.2"),
        ("kv@10.0.0.1:8001@m", "http://10.0.0.1:8000", "10.0.0.1:8001"),
        ("kv@pod-b@m", "http://pod-a:8000", "pod-b"),
        ("kv@10.0.0.1@m", "http://10.0.0.1:8000", None),
        ("kv@10.0.0.1:8000@m", "http://10.0.0.1:8000", None),
        ("kv@pod-a@m", "http://10.0.0.1:8000", None),  # can't be compared
        ("kv@localhost:9@m", "http://pod-a:8000", None),
        ("kv@0.0.0.0@m", "http://10.0.0.1:8000", None),
        ("kv@x:port@m", "http://y:1", None),
        ("kv@@m", "http://y:1", None),
        ("", "http://10.0.0.1:8000", None),
        ("kv-events", "http://10.0.0.1:8000", None),
    ],
)
def test_a_topic_may_name_another_server(topic: str, url: str, other: str | None) -> None:
    assert topic_names_other(topic, url) == other
