"""The thin shell around `election.Election`: reads and writes the Lease, again and again."""

import asyncio
import logging
import random
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from secrets import token_hex

from endpoints.kubernetes.connection import Connection
from endpoints.kubernetes.errors import (
    AlreadyExistsError,
    ConflictError,
    KubernetesError,
    NotFoundError,
)
from endpoints.kubernetes.objects import Objects
from endpoints.kubernetes.resources import LEASES, Object
from endpoints.scaling.election import Election, ElectionSettings
from endpoints.scaling.sharing import PREFIX, Others, Share, written

_log = logging.getLogger(__name__)
_JITTER = 0.2


def own_identity() -> str:
    """A name that no other process has; it begins with the pod's."""
    return f"{socket.gethostname()}_{token_hex(4)}"


class Leader:
    """A candidate for one lease, from `start` to `stop`; ``changed`` is called when that changes.

    Whoever acts asks `leads` before each action: it is true only as long as nobody else can be.
    Who follows writes its ``shares`` of the pools' traffic into the lease; `others` has what the
    leader read there, and ``changed`` is called as well when somebody begins to hold requests.
    """

    def __init__(
        self,
        connection: Connection,
        namespace: str,
        name: str = "inferway-scaler",
        *,
        identity: str | None = None,
        settings: ElectionSettings | None = None,
        clock: Callable[[], float] = time.monotonic,
        changed: Callable[[], object] = lambda: None,
        shares: Callable[[], Mapping[str, Share]] = dict,
    ) -> None:
        self.election = Election(identity or own_identity(), settings)
        self._objects = Objects(connection, "inferway-scaler")
        self._namespace = namespace
        self._name = name
        self._clock = clock
        self._changed = changed
        self.others = Others(self.election.identity)
        self._shares = shares
        self._seq = 0
        self._led = False
        self._trouble = ""
        self._task: asyncio.Task[None] | None = None

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
                    (lease["metadata"].get("annotations") or {}).pop(
                        PREFIX + self.election.identity, None
                    )
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
                self._trouble = ""
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
        annotations = lease["metadata"].get("annotations") or {}
        if self.others.saw(annotations, now) and election.leads(now):
            self._changed()
        if election.may_write(now):
            for key in (*self.others.gone(now), PREFIX + election.identity):
                annotations.pop(key, None)
            await self._write(lease)
        if not self.leads():
            await self._share()

    async def _share(self) -> None:
        """Tell whoever leads what we see."""
        self._seq += 1
        text = written(self._shares(), self._seq)
        patch = {"metadata": {"annotations": {PREFIX + self.election.identity: text}}}
        await self._objects.merge_patch(LEASES, self._name, patch, self._namespace)

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
            self._changed()
