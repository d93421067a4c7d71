"""The thin shell around `election.Election`: reads and writes the Lease, again and again."""

import asyncio
import logging
import random
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from secrets import token_hex
from typing import Any, Final, Protocol

from endpoints.kubernetes.connection import Connection
from endpoints.kubernetes.errors import (
    AlreadyExistsError,
    ConflictError,
    KubernetesError,
    NotFoundError,
)
from endpoints.kubernetes.leading.election import Election, ElectionSettings
from endpoints.kubernetes.objects import Objects
from endpoints.kubernetes.resources import LEASES, Object

_log = logging.getLogger(__name__)
_JITTER: Final = 0.2


def own_identity() -> str:
    """A name that no other process has; it begins with the pod's."""
    return f"{socket.gethostname()}_{token_hex(4)}"


class Notes(Protocol):
    """What candidates write to the one that leads, each in an annotation of the Lease."""

    def key(self, identity: str) -> str:
        """The annotation that is that candidate's."""

    def text(self) -> str:
        """What to write there now."""

    def saw(self, annotations: Mapping[str, Any], own: str, now: float) -> bool:
        """What is written, ``own`` our own key; whether it can't wait for whoever leads."""

    def stale(self, now: float) -> Iterable[str]:
        """Annotations of candidates that are gone."""


class Leader:
    """A candidate for the lease ``name``, from `start` to `stop`.

    Whoever acts asks `leads` before each action: it is true only as long as nobody else can be.
    ``changed`` is called when that changes, and when there is a note that can't wait. Who follows
    writes its ``notes`` into the lease; without any, only whoever may lead writes it.
    """

    def __init__(
        self,
        connection: Connection,
        namespace: str,
        name: str,
        *,
        identity: str | None = None,
        settings: ElectionSettings | None = None,
        clock: Callable[[], float] = time.monotonic,
        changed: Callable[[], object] = lambda: None,
        notes: Notes | None = None,
    ) -> None:
        self.election = Election(identity or own_identity(), settings)
        self.changed = changed
        self._objects = Objects(connection, name)
        self._namespace = namespace
        self._name = name
        self._clock = clock
        self._notes = notes
        self._led = False
        self._answered = False
        self._trouble = ""
        self._task: asyncio.Task[None] | None = None

    @property
    def trouble(self) -> str:
        """Why the lease could not be read or written last; empty: it could, or nobody tried."""
        return self._trouble

    @property
    def answered(self) -> bool:
        """Whether the lease was ever seen or written: it is known who leads."""
        return self._answered

    def leads(self) -> bool:
        """Whether we may act now."""
        return self.election.leads(self._clock())

    async def start(self) -> None:
        """Run for it."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Give it up, so that the next one need not wait. Harmless when it never started."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._task = None
        if self.leads():
            with suppress(KubernetesError, TimeoutError):
                async with asyncio.timeout(self.election.settings.retry_seconds):
                    lease = await self._objects.get(LEASES, self._name, self._namespace)
                    self._without(lease)
                    if (lease.get("spec") or {}).get("holderIdentity") == self.election.identity:
                        lease["spec"] = self.election.released(time.time())
                        await self._objects.replace(LEASES, lease)
        self._tell()

    async def _run(self) -> None:
        settings = self.election.settings
        while True:
            try:
                async with asyncio.timeout(settings.renew_seconds):
                    await self._try()
                self._trouble, self._answered = "", True
            except (KubernetesError, TimeoutError) as error:
                why = str(error) or "no answer in time"
                if why != self._trouble:
                    self._trouble = why
                    _log.warning("lease %s/%s: %s", self._namespace, self._name, why)
            self._tell()
            await asyncio.sleep(settings.retry_seconds * random.uniform(1.0, 1.0 + _JITTER))

    async def _try(self) -> None:
        """Renew the lease, or take it when nobody holds it any more."""
        election = self.election
        try:
            lease = await self._objects.get(LEASES, self._name, self._namespace)
        except NotFoundError:
            election.absent()
            await self._write(None)
            return
        now = self._clock()
        election.saw(lease.get("spec") or {}, now)
        if self._read(lease, now) and election.leads(now):
            self.changed()
        if election.may_write(now):
            self._without(lease)
            await self._write(lease)
        if self._notes is not None and not self.leads():
            note = {self._notes.key(election.identity): self._notes.text()}
            patch = {"metadata": {"annotations": note}}
            await self._objects.merge_patch(LEASES, self._name, patch, self._namespace)

    def _read(self, lease: Object, now: float) -> bool:
        """The notes on it; whether they can't wait."""
        if self._notes is None:
            return False
        own = self._notes.key(self.election.identity)
        return self._notes.saw(lease["metadata"].get("annotations") or {}, own, now)

    def _without(self, lease: Object) -> None:
        """Take the notes away of who is gone, and ours: who leads need not tell itself."""
        if self._notes is None:
            return
        annotations = lease["metadata"].get("annotations") or {}
        for key in (*self._notes.stale(self._clock()), self._notes.key(self.election.identity)):
            annotations.pop(key, None)

    async def _write(self, lease: Object | None) -> None:
        election, sent_at = self.election, self._clock()
        spec = election.spec(time.time())
        with suppress(AlreadyExistsError, ConflictError):  # somebody else was faster
            if lease is None:
                new = {"metadata": {"name": self._name}, "spec": spec}
                written = await self._objects.create(LEASES, new, self._namespace)
            else:
                written = await self._objects.replace(LEASES, {**lease, "spec": spec})
            election.wrote(written.get("spec") or {}, sent_at, self._clock())

    def _tell(self) -> None:
        leads = self.leads()
        if leads is not self._led:
            self._led = leads
            word = "leads" if leads else "leads no longer"
            _log.info("%s %s (lease %s)", self.election.identity, word, self._name)
            self.changed()
