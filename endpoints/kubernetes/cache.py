"""One resource's objects, kept by list and watch on the event loop; `ListWatch` decides.

Whoever subscribes is told which objects changed, coalesced: a burst of events is one call.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import msgspec

from endpoints.kubernetes.connection import JSON, Connection
from endpoints.kubernetes.errors import GoneError, KubernetesError, UnreachableError
from endpoints.kubernetes.lines import Lines
from endpoints.kubernetes.listwatch import Condition, List, ListWatch, Pacing, Phase, Wait, Watch
from endpoints.kubernetes.resources import Key, Object, Resource

_log = logging.getLogger(__name__)
_NOTHING: frozenset[Key] = frozenset()
_METADATA: Final = "application/json;as=PartialObjectMetadata{};g=meta.k8s.io;v=v1," + JSON

OnChange: TypeAlias = Callable[[frozenset[Key]], object]
"""Told which objects came, changed or went; empty when only the condition changed."""


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """How lists and watches are made; times in seconds.

    ``page``: objects a page. A watch lasts for about ``watch_seconds``; ``quiet_seconds`` of
    silence end it sooner. ``settle``: for how long changes are collected before they are told.
    """

    page: int = 500
    watch_seconds: float = 300.0
    quiet_seconds: float = 90.0
    settle: float = 0.01
    pacing: Pacing = field(default_factory=Pacing)


def without_managed_fields(item: Object) -> Object:
    """The object without the record of who wrote which field, often half of it."""
    item["metadata"].pop("managedFields", None)
    return item


class Cache:
    """What the API server has of ``resource``, from `start` to `stop`.

    In one ``namespace`` (None: all of them), narrowed by selectors. Objects are replaced, never
    changed, so an object's identity says whether anything about it is new. ``required`` False:
    that it is missing or forbidden is nothing to alarm anybody about. ``metadata_only``: have the
    API server send nothing but the objects' metadata.
    """

    def __init__(
        self,
        connection: Connection,
        resource: Resource,
        *,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        settings: CacheSettings | None = None,
        trim: Callable[[Object], Object] = without_managed_fields,
        required: bool = True,
        metadata_only: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.resource = resource
        self.namespace = namespace
        self.required = required
        self._accept = (JSON, JSON)
        if metadata_only:
            self._accept = (_METADATA.format("List"), _METADATA.format(""))
        self._connection = connection
        self._path = resource.path(namespace)
        self.label_selector = label_selector or ""
        self._narrow: dict[str, str] = {}
        if label_selector:
            self._narrow["labelSelector"] = label_selector
        if field_selector:
            self._narrow["fieldSelector"] = field_selector
        self._settings = settings or CacheSettings()
        self._clock = clock
        self._machine = ListWatch(clock(), self._settings.pacing, trim=trim)
        self._task: asyncio.Task[None] | None = None
        self._subscribers: list[OnChange] = []
        self._changed: set[Key] = set()
        self._telling: asyncio.TimerHandle | None = None
        self._answered = asyncio.Event()
        self._in_sync = asyncio.Event()
        self._told = self._machine.condition

    # --- what is known ---------------------------------------------------------------------------

    @property
    def objects(self) -> Mapping[Key, Object]:
        """What exists, by namespace and name; the last known while the API server is away."""
        return self._machine.objects

    def get(self, name: str, namespace: str = "") -> Object | None:
        """The object of that name, or None."""
        return self._machine.objects.get((namespace, name))

    @property
    def condition(self) -> Condition:
        """How far that can be believed, since when, and why."""
        return self._machine.condition

    @property
    def synced(self) -> bool:
        """Whether the objects are those of now."""
        return self._machine.condition.phase is Phase.SYNCED

    @property
    def listed(self) -> bool:
        """Whether the objects were ever known."""
        return self._machine.listed

    @property
    def lists(self) -> int:
        """Complete lists so far; more than one means that a watch could not go on."""
        return self._machine.lists

    @property
    def stale_seconds(self) -> float:
        """For how long the objects have not been those of now; 0 when they are."""
        return 0.0 if self.synced else self._clock() - self._machine.condition.since

    # --- life ------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to list and watch; returns at once."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """End it; what is known stays."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None

    async def wait_answered(self, seconds: float) -> bool:
        """Wait until the API server said something: the list, or that it will not give it."""
        return await self._wait(self._answered, seconds)

    async def wait_synced(self, seconds: float) -> bool:
        """Wait until the objects are those of now; False when that takes longer."""
        return await self._wait(self._in_sync, seconds)

    def subscribe(self, told: OnChange) -> Callable[[], None]:
        """Have ``told`` called after changes; gives what ends that."""
        self._subscribers.append(told)
        return lambda: self._subscribers.remove(told)

    @staticmethod
    async def _wait(event: asyncio.Event, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            return False
        return True

    # --- carrying out what the machine wants ---------------------------------------------------

    async def _run(self) -> None:
        while True:
            action = self._machine.action
            try:
                if isinstance(action, Wait):
                    await asyncio.sleep(action.seconds)
                    self._machine.waited()
                elif isinstance(action, List):
                    await self._list(action)
                else:
                    await self._watch(action)
            except KubernetesError as error:
                self._machine.failed(error, self._clock())
            except Exception as error:  # a defect here must not end the following for good
                _log.exception("%s: what the API server said can't be used", self.resource.name)
                self._machine.failed(GoneError(410, "Defect", repr(error)), self._clock())
            self._note(_NOTHING)

    async def _list(self, action: List) -> None:
        query = {**self._narrow, "limit": str(self._settings.page)}
        if action.token is not None:
            query["continue"] = action.token
        page = await self._connection.request("GET", self._path, query, accept=self._accept[0])
        self._note(self._machine.page(page, self._clock()))

    async def _watch(self, action: Watch) -> None:
        settings = self._settings
        lasts = max(1, round(settings.watch_seconds * random.uniform(0.8, 1.2)))
        query = {
            **self._narrow,
            "watch": "1",
            "resourceVersion": action.version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(lasts),
        }
        stream = self._connection.stream(
            self._path,
            query,
            seconds=lasts + 15.0,
            quiet_seconds=settings.quiet_seconds,
            accept=self._accept[1],
        )
        lines = Lines()
        async with stream as chunks:
            self._machine.opened(self._clock())
            self._note(_NOTHING)
            async for chunk in chunks:
                changed: set[Key] = set()
                for line in lines.feed(chunk):
                    changed |= self._machine.event(_event(line), self._clock())
                    if not isinstance(self._machine.action, Watch):
                        self._note(frozenset(changed))
                        return
                self._note(frozenset(changed))
        self._machine.closed(self._clock())

    def _note(self, changed: frozenset[Key]) -> None:
        """Remember what changed, and tell it soon; log what an operator should know."""
        condition = self._machine.condition
        if condition is not self._told:
            before, self._told = self._told, condition
            self._report(before, condition)
        elif not changed:
            return
        if condition.phase is not Phase.SYNCING:
            self._answered.set()
        if condition.phase is Phase.SYNCED:
            self._in_sync.set()
        else:
            self._in_sync.clear()
        self._changed |= changed
        if self._telling is None:
            loop = asyncio.get_running_loop()
            self._telling = loop.call_later(self._settings.settle, self._tell)

    def _tell(self) -> None:
        self._telling = None
        changed, self._changed = frozenset(self._changed), set()
        for told in tuple(self._subscribers):
            try:
                told(changed)
            except Exception:
                _log.exception("%s: what is done after a change failed", self.resource.name)

    def _report(self, before: Condition, now: Condition) -> None:
        where = f"in namespace {self.namespace}" if self.namespace else "in all namespaces"
        what = (
            self.resource.name if not self.resource.namespaced else f"{self.resource.name} {where}"
        )
        facts = {"resource": self.resource.name, "phase": now.phase.value}
        if now.phase is Phase.SYNCED:
            if before.phase is not Phase.SYNCED:
                _log.info("%s: %d, and watching", what, len(self.objects), extra=facts)
        elif now.phase is Phase.FORBIDDEN:
            _log.log(
                logging.ERROR if self.required else logging.WARNING,
                "%s: not allowed to read them; grant get, list and watch "
                "(deploy/kubernetes/rbac.yaml): %s",
                what,
                now.message,
                extra=facts,
            )
        elif now.phase is Phase.MISSING:
            _log.log(
                logging.ERROR if self.required else logging.DEBUG,
                "%s: the cluster does not have this resource in version %s; install its "
                "definition (CRD): %s",
                what,
                self.resource.version,
                now.message,
                extra=facts,
            )
        elif before.phase is not now.phase or before.message == "":
            known = (
                f"going on with the {len(self.objects)} last known" if self.listed else "waiting"
            )
            _log.warning("%s: %s; %s", what, now.message, known, extra=facts)


def _event(line: bytes) -> Object:
    try:
        event = msgspec.json.decode(line)
    except msgspec.DecodeError as error:
        raise UnreachableError("the watch was cut in the middle of an event") from error
    if not isinstance(event, dict):
        raise UnreachableError("the watch says something that is no event")
    return event
