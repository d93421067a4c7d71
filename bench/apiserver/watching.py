"""Watches: which events of the history one watcher sees, as lines."""

from typing import Any

import msgspec

from bench.apiserver.failures import StatusError
from bench.apiserver.selectors import Matches
from bench.apiserver.store import Event, Store
from bench.apiserver.target import Target


class Watcher:
    """One watch: what it narrows to, and up to which version it has been served."""

    def __init__(
        self,
        store: Store,
        target: Target,
        matches: Matches,
        version: int,
        *,
        metadata_only: bool = False,
    ) -> None:
        self._metadata_only = metadata_only
        self._store = store
        self._target = target
        self._matches = matches
        self.version = version

    def initial(self, *, bookmark: bool) -> list[bytes]:
        """What exists, as events; then it goes on from now."""
        target = self._target
        items = self._store.select(target.kind, target.namespace, self._matches)
        self.version = self._store.version
        lines = [self._line("ADDED", item) for item in items]
        if bookmark:
            lines.append(self.bookmark({"k8s.io/initial-events-end": "true"}))
        return lines

    def due(self) -> tuple[list[bytes], bool]:
        """The lines since the last call, and whether the watch is over (its past is forgotten)."""
        try:
            events = self._store.since(self.version)
        except StatusError as failure:
            return [_encode({"type": "ERROR", "object": failure.status()})], True
        lines = []
        for event in events:
            self.version = event.version
            if event.kind is self._target.kind and (line := self._seen(event)) is not None:
                lines.append(line)
        return lines, False

    def bookmark(self, annotations: dict[str, str] | None = None) -> bytes:
        """The line that only tells the version."""
        target = self._target
        metadata: dict[str, Any] = {"resourceVersion": str(self.version)}
        if annotations:
            metadata["annotations"] = annotations
        item = {"kind": target.kind.kind, "metadata": metadata}
        return self._line("BOOKMARK", item)

    def _seen(self, event: Event) -> bytes | None:
        """An object that begins or ceases to match comes or goes, for this watcher."""
        namespace = event.item["metadata"].get("namespace") or ""
        if self._target.namespace not in ("", namespace):
            return None
        name = self._target.name
        if name and event.item["metadata"]["name"] != name:
            return None
        was = event.before is not None and self._matches(event.before)
        is_now = event.what != "DELETED" and self._matches(event.item)
        if not was and not is_now:
            return None
        what = "MODIFIED" if was and is_now else "ADDED" if is_now else "DELETED"
        return self._line(what, event.item)

    def _line(self, what: str, item: dict[str, Any]) -> bytes:
        target = self._target
        if self._metadata_only:
            return _encode({"type": what, "object": only_metadata(item)})
        versioned = {**item, "apiVersion": target.kind.api_version(target.version)}
        return _encode({"type": what, "object": versioned})


def only_metadata(item: dict[str, Any]) -> dict[str, Any]:
    """The object as those get it who ask for metadata alone."""
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": item["metadata"],
    }


def _encode(event: dict[str, Any]) -> bytes:
    return msgspec.json.encode(event) + b"\n"
