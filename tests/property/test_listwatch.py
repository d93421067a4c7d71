"""Whatever an API server does, the store ends as it says."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from endpoints.kubernetes.errors import ForbiddenError, GoneError, ServerError, UnreachableError
from endpoints.kubernetes.listwatch import List, ListWatch, Wait, Watch

NAMES = st.sampled_from("abcd")
WRITES = st.lists(st.tuples(st.sampled_from(["put", "delete"]), NAMES), max_size=6)
TROUBLES = st.sampled_from(
    [
        None,
        None,
        GoneError(410, "Expired", ""),
        ServerError(500, "InternalError", ""),
        UnreachableError("cut"),
        ForbiddenError(403, "Forbidden", ""),
    ]
)


class Server:
    def __init__(self) -> None:
        self.version = 0
        self.items: dict[str, int] = {}
        self.events: list[tuple[int, str, str]] = []

    def write(self, kind: str, name: str) -> None:
        if kind == "delete" and name not in self.items:
            return
        self.version += 1
        if kind == "put":
            self.items[name] = self.version
        else:
            del self.items[name]
        self.events.append((self.version, kind, name))

    def page(self, start: int, size: int) -> dict[str, Any]:
        names = sorted(self.items)
        metadata: dict[str, Any] = {"resourceVersion": str(self.version)}
        if start + size < len(names):
            metadata["continue"] = str(start + size)
        items = [_item(name, self.items[name]) for name in names[start : start + size]]
        return {"metadata": metadata, "items": items}


def _item(name: str, version: int) -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": name, "resourceVersion": str(version)}}


@given(st.lists(st.tuples(WRITES, TROUBLES, st.integers(0, 4)), max_size=25), st.integers(1, 3))
def test_the_store_ends_as_the_server_has_it(
    steps: list[tuple[list[tuple[str, str]], Any, int]], size: int
) -> None:
    server, machine, now = Server(), ListWatch(0.0), 0.0
    told: dict[str, int | None] = {}

    def note(keys: frozenset[tuple[str, str]]) -> None:
        for key in keys:
            item = machine.objects.get(key)
            told[key[1]] = None if item is None else int(item["metadata"]["resourceVersion"])

    def step(trouble: Any, most: int) -> None:
        nonlocal now
        now += 2.0
        action = machine.action
        if isinstance(action, Wait):
            machine.waited()
        elif trouble is not None:
            machine.failed(trouble, now)
        elif isinstance(action, List):
            note(machine.page(server.page(int(action.token or 0), size), now))
        else:
            _watch(action, most)

    def _watch(action: Watch, most: int) -> None:
        machine.opened(now)
        due = [event for event in server.events if event[0] > int(action.version)]
        for version, kind, name in due[:most]:
            what = "MODIFIED" if kind == "put" else "DELETED"
            note(machine.event({"type": what, "object": _item(name, version)}, now))
        machine.closed(now + 1.5)

    paging = False
    for writes, trouble, most in steps:
        if not paging:  # a list's pages are of one version
            for kind, name in writes:
                server.write(kind, name)
        step(trouble, most)
        paging = isinstance(machine.action, List) and machine.action.token is not None
    for _ in range(20):
        step(None, 1000)
    assert {name for _space, name in machine.objects} == set(server.items)
    assert {name: version for name, version in told.items() if version} == server.items
