"""List and watch as a state machine without I/O: what came in goes in, what to do next comes out.

::

            ┌────────────────── Wait, then ─────────────────────┐
            ▼                                                   │
        List(continue) ──page with continue──► List(continue)   │ failed
            │ last page                                         │
            ▼              closed                               │
        Watch(version) ──────────────► Watch(version) ──────────┤
            │ gone (410, in an answer or an event)              │
            └────────────► List(None) ──────────────────────────┘

A list replaces the store once its last page is there, never before: a list that fails in the
middle leaves what was known. Nothing but a list or an event changes the store, so an API server
that is away leaves the last known objects. What a failure means is in the `Condition`:

- unreachable, 5xx, 429, 401: back-off that doubles, jittered; a ``Retry-After`` is honoured;
- 403 (RBAC) and 404 (no such resource in the cluster: its definition is not installed): tried
  again slowly, as nothing but an operator can mend them;
- a watch that ends at once without a word counts as a failure, and so does a second 410 without
  a watch that went well in between: either would become a busy loop.

Source: Kubernetes API concepts, "Efficient detection of changes"; client-go's reflector.
"""

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import TypeAlias

from endpoints.kubernetes.errors import (
    ApiError,
    ForbiddenError,
    GoneError,
    KubernetesError,
    NotFoundError,
    UnauthorizedError,
    error_of_status,
)
from endpoints.kubernetes.resources import Key, Object, items_of, key_of


@dataclass(frozen=True, slots=True)
class List:
    """List the next page; ``token`` is None for the first one."""

    token: str | None = None


@dataclass(frozen=True, slots=True)
class Watch:
    """Watch from this resource version on."""

    version: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing for so many seconds, then ask again."""

    seconds: float


Action: TypeAlias = List | Watch | Wait


class Phase(Enum):
    """How far the store can be believed."""

    SYNCING = "syncing"  # not listed yet
    SYNCED = "synced"
    STALE = "stale"  # the API server is away: the last known objects
    FORBIDDEN = "forbidden"  # we may not read it
    MISSING = "missing"  # the cluster has no such resource


@dataclass(frozen=True, slots=True)
class Condition:
    """The phase, when it began, and why, in words for operators (empty when all is well)."""

    phase: Phase
    since: float
    message: str = ""


@dataclass(frozen=True, slots=True)
class Pacing:
    """Seconds: the first and the longest pause after failures, the pause after a refusal.

    A watch that delivers nothing and lives for less than ``least`` counts as a failure.
    """

    first: float = 0.8
    longest: float = 30.0
    refused: float = 30.0
    least: float = 1.0


_NOTHING: frozenset[Key] = frozenset()


class ListWatch:
    """One resource's objects, kept as the API server has them. Methods say which keys changed.

    ``jitter`` gives the factor that a pause is multiplied with; ``trim`` may leave out parts
    of an object that nobody needs.
    """

    def __init__(
        self,
        now: float,
        pacing: Pacing | None = None,
        *,
        jitter: Callable[[], float] = lambda: random.uniform(0.5, 1.0),
        trim: Callable[[Object], Object] = lambda item: item,
    ) -> None:
        self._pacing = pacing or Pacing()
        self._jitter = jitter
        self._trim = trim
        self._store: dict[Key, Object] = {}
        self._listed: dict[Key, Object] = {}
        self._failures = 0
        self._gone = 0  # times that everything had to be listed again, since a watch went well
        self._opened: float | None = None
        self._heard = False
        self._after: Action = List()
        self.objects: Mapping[Key, Object] = MappingProxyType(self._store)
        """What exists, as far as known."""
        self.condition = Condition(Phase.SYNCING, now)
        """How far that can be believed."""
        self.action: Action = List()
        """What to do now."""
        self.lists = 0
        """Complete lists so far."""

    @property
    def listed(self) -> bool:
        """Whether the objects were ever known."""
        return self.lists > 0

    # --- listing -----------------------------------------------------------------------------

    def page(self, page: Object, now: float) -> frozenset[Key]:
        """A page of the list came."""
        for item in items_of(page):
            self._listed[key_of(item)] = self._trim(item)
        metadata = page.get("metadata") or {}
        token = metadata.get("continue")
        if token:
            self.action = List(token)
            return _NOTHING
        listed, self._listed = self._listed, {}
        changed = frozenset(_differences(self._store, listed))
        self._store.clear()
        self._store.update(listed)
        self.lists += 1
        self._failures = 0
        self._well(now)
        self.action = Watch(metadata.get("resourceVersion") or "0")
        return changed

    # --- watching ----------------------------------------------------------------------------

    def opened(self, now: float) -> None:
        """The watch is there."""
        self._opened, self._heard = now, False
        self._well(now)

    def event(self, event: Object, now: float) -> frozenset[Key]:
        """One event of the watch came. After a fatal one, `action` is no watch any more."""
        kind, item = event.get("type"), event.get("object") or {}
        self._heard = True
        if kind == "ERROR":
            self.failed(error_of_status(item), now)
            return _NOTHING
        self._gone = 0
        version = (item.get("metadata") or {}).get("resourceVersion")
        if version:
            self.action = Watch(version)
        if kind == "BOOKMARK":
            return _NOTHING
        key = key_of(item)
        if kind == "DELETED":
            return _NOTHING if self._store.pop(key, None) is None else frozenset((key,))
        self._store[key] = self._trim(item)
        return frozenset((key,))

    def closed(self, now: float) -> None:
        """The watch ended without an error: it goes on from the last known version."""
        opened, self._opened = self._opened, None
        if self._heard or (opened is not None and now - opened >= self._pacing.least):
            self._failures = self._gone = 0
            return
        self._pause(self._backoff(), self.action)

    # --- what can go wrong ---------------------------------------------------------------------

    def failed(self, error: KubernetesError, now: float) -> None:
        """A list, or a watch, failed."""
        opened, self._opened = self._opened, None
        if opened is not None and now - opened >= self._pacing.least:
            self._failures = 0
        resume: Action = self.action if isinstance(self.action, Watch) else List()
        self._listed.clear()
        if isinstance(error, GoneError):
            self._gone += 1
            self.action = List()
            if self._gone > 1:  # no watch went well in between: it would be a busy loop
                self._become(Phase.STALE if self.listed else Phase.SYNCING, now, str(error))
                self._pause(self._backoff(), List())
            return
        if isinstance(error, ForbiddenError | NotFoundError):
            refused = Phase.FORBIDDEN if isinstance(error, ForbiddenError) else Phase.MISSING
            self._become(refused, now, error.message)
            self._pause(self._pacing.refused * self._jitter(), List())
            return
        self._become(Phase.STALE if self.listed else Phase.SYNCING, now, _words(error))
        wait = self._backoff()
        if isinstance(error, ApiError) and error.retry_after is not None:
            wait = max(wait, min(error.retry_after, 10 * self._pacing.longest))
        self._pause(wait, resume)

    def waited(self) -> None:
        """The pause is over."""
        self.action = self._after

    def _pause(self, seconds: float, then: Action) -> None:
        self.action, self._after = Wait(seconds), then

    def _backoff(self) -> float:
        pacing = self._pacing
        wait = min(pacing.longest, pacing.first * 2.0 ** min(self._failures, 30))
        self._failures += 1
        return wait * self._jitter()

    def _well(self, now: float) -> None:
        self._become(Phase.SYNCED, now, "")

    def _become(self, phase: Phase, now: float, message: str) -> None:
        was = self.condition
        if was.phase is not phase:
            self.condition = Condition(phase, now, message)
        elif was.message != message:
            self.condition = Condition(phase, was.since, message)


def _words(error: KubernetesError) -> str:
    if isinstance(error, UnauthorizedError):
        return f"the API server does not accept our credentials: {error.message}"
    return str(error)


def _differences(before: Mapping[Key, Object], after: Mapping[Key, Object]) -> Iterable[Key]:
    for key, item in after.items():
        known = before.get(key)
        if known is None or not _same(known, item):
            yield key
    for key in before:
        if key not in after:
            yield key


def _same(one: Object, other: Object) -> bool:
    """Whether nothing was written in between."""
    versions = [
        (item["metadata"].get("uid"), item["metadata"].get("resourceVersion"))
        for item in (one, other)
    ]
    return versions[0] == versions[1] and versions[0][1] is not None
