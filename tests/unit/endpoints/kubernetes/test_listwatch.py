"""List and watch, without an API server."""

from typing import Any

import pytest

from endpoints.kubernetes.errors import (
    ApiError,
    ForbiddenError,
    GoneError,
    NotFoundError,
    ServerError,
    TooManyRequestsError,
    UnreachableError,
    error_of,
)
from endpoints.kubernetes.lines import Lines
from endpoints.kubernetes.listwatch import List, ListWatch, Pacing, Phase, Wait, Watch

PACING = Pacing(first=1.0, longest=8.0, refused=60.0, least=1.0)


def machine() -> ListWatch:
    return ListWatch(0.0, PACING, jitter=lambda: 1.0)


def item(name: str, version: int = 1, **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": name, "resourceVersion": str(version)}, **more}


def page(*items: dict[str, Any], version: int = 10, token: str | None = None) -> dict[str, Any]:
    metadata: dict[str, Any] = {"resourceVersion": str(version)}
    if token:
        metadata["continue"] = token
    return {"kind": "PodList", "apiVersion": "v1", "metadata": metadata, "items": list(items)}


def listed(*names: str) -> ListWatch:
    one = machine()
    one.page(page(*(item(name) for name in names)), 1.0)
    one.opened(1.0)
    return one


def due(one: ListWatch) -> object:
    """What is to be done now, as nothing that a type checker could hold on to."""
    return one.action


def names(one: ListWatch) -> set[str]:
    return {name for _space, name in one.objects}


def test_a_list_becomes_known_with_its_last_page() -> None:
    one = machine()
    assert due(one) == List()
    assert not one.page(page(item("a"), token="t"), 1.0)
    assert due(one) == List("t")
    assert not one.listed
    assert one.page(page(item("b")), 2.0) == {("", "a"), ("", "b")}
    assert due(one) == Watch("10")
    assert one.condition.phase is Phase.SYNCED
    assert one.objects["", "a"]["kind"] == "Pod"


def test_events_change_the_store_and_the_version() -> None:
    one = listed("a", "b")
    assert one.event({"type": "ADDED", "object": item("c", 11)}, 2.0) == {("", "c")}
    assert one.event({"type": "DELETED", "object": item("a", 12)}, 2.0) == {("", "a")}
    assert not one.event({"type": "DELETED", "object": item("a", 12)}, 2.0)
    assert not one.event({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "20"}}}, 2)
    assert due(one) == Watch("20")
    assert names(one) == {"b", "c"}


def test_a_new_list_tells_only_what_is_different() -> None:
    one = listed("same", "gone", "changed")
    one.failed(GoneError(410, "Expired", "old"), 2.0)
    assert due(one) == List()
    assert names(one) == {"same", "gone", "changed"}
    after = page(item("same"), item("changed", 5), item("new"))
    assert one.page(after, 3.0) == {("", "gone"), ("", "changed"), ("", "new")}


def test_an_error_event_is_what_it_says() -> None:
    one = listed("a")
    status = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
    one.event({"type": "ERROR", "object": status}, 2.0)
    assert due(one) == List()
    one = listed("a")
    one.event({"type": "ERROR", "object": {**status, "code": 500}}, 2.0)
    assert due(one) == Wait(1.0)
    one.waited()
    assert due(one) == Watch("10")


def test_an_expired_continue_token_begins_the_list_anew() -> None:
    one = machine()
    one.page(page(item("a"), token="t"), 1.0)
    one.failed(GoneError(410, "Expired", "old"), 2.0)
    assert due(one) == List()
    one.page(page(item("b")), 3.0)
    assert names(one) == {"b"}


def test_a_server_that_forgets_all_the_time_is_no_busy_loop() -> None:
    one = listed("a")
    one.failed(GoneError(410, "Expired", "old"), 2.0)
    assert due(one) == List()
    one.page(page(item("a")), 2.0)
    one.failed(GoneError(410, "Expired", "old"), 2.0)
    assert due(one) == Wait(1.0)
    one.waited()
    one.page(page(item("a")), 3.0)
    one.opened(3.0)
    one.event({"type": "MODIFIED", "object": item("a", 11)}, 3.0)
    one.failed(GoneError(410, "Expired", "old"), 4.0)
    assert due(one) == List()


def test_pauses_double_up_to_the_longest_and_what_is_known_stays() -> None:
    one = listed("a")
    waits = []
    for _ in range(6):
        one.failed(UnreachableError("no route"), 5.0)
        assert isinstance(one.action, Wait)
        waits.append(one.action.seconds)
        one.waited()
    assert waits == [1.0, 2.0, 4.0, 8.0, 8.0, 8.0]
    assert names(one) == {"a"}
    assert (one.condition.phase, one.condition.since) == (Phase.STALE, 5.0)
    assert due(one) == Watch("10")
    one.opened(9.0)
    assert one.condition.phase is Phase.SYNCED
    one.closed(20.0)
    one.failed(UnreachableError("again"), 30.0)
    assert due(one) == Wait(1.0)  # it went well in between


def test_a_server_that_names_a_time_is_given_it() -> None:
    one = machine()
    one.failed(TooManyRequestsError(429, "TooManyRequests", "", retry_after=20.0), 1.0)
    assert due(one) == Wait(20.0)
    assert one.condition.phase is Phase.SYNCING


@pytest.mark.parametrize(
    ("error", "phase"),
    [
        (ForbiddenError(403, "Forbidden", "no"), Phase.FORBIDDEN),
        (NotFoundError(404, "NotFound", "no"), Phase.MISSING),
    ],
)
def test_a_refusal_is_tried_again_slowly_from_the_list_on(error: ApiError, phase: Phase) -> None:
    one = listed("a")
    one.failed(error, 2.0)
    assert one.condition.phase is phase
    assert due(one) == Wait(60.0)
    assert names(one) == {"a"}
    one.waited()
    assert due(one) == List()


def test_a_watch_that_ends_at_once_without_a_word_is_a_failure() -> None:
    one = listed("a")
    one.closed(1.5)
    assert due(one) == Wait(1.0)
    one = listed("a")
    one.closed(2.5)  # it lived
    assert due(one) == Watch("10")
    one = listed("a")
    one.event({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "11"}}}, 1.1)
    one.closed(1.2)  # it said something
    assert due(one) == Watch("11")


def test_the_reasons_of_errors_are_read_from_the_status_or_the_text() -> None:
    assert isinstance(error_of(503, b"upstream connect error"), ServerError)
    assert error_of(503, b"upstream connect error").message == "upstream connect error"
    body = b'{"kind":"Status","reason":"AlreadyExists","message":"m","details":{"causes":[]}}'
    error = error_of(409, body, "7")
    assert (type(error).__name__, error.retry_after) == ("AlreadyExistsError", 7.0)
    assert error_of(500, b'{"kind":"Status","message":null}').message == "no message"
    assert error_of(429, b"", "soon").retry_after is None


def test_lines_are_whole_however_they_come() -> None:
    lines = Lines()
    found = [line for piece in (b"a", b"b\n\nc\nd", b"\n") for line in lines.feed(piece)]
    assert found == [b"ab", b"c", b"d"]
    with pytest.raises(ValueError, match="longer than"):
        list(Lines(longest=3).feed(b"abcd"))
