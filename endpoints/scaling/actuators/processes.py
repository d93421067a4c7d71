"""Model servers on this machine, started and ended by a command template.

Each member is a process of its own in a session of its own, so that ending it ends what it has
started as well. A process that ends by itself is started again, ever later the oftener that
happens. Draining is the controller's business, as with every other target: by the time a process
is told to end, nothing is in flight on it any more, or its grace period is over.
"""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from endpoints.discovery.static import endpoint_from_url
from endpoints.scaling.actuators.actuator import ActuatorError, Member, MovedError, Phase, Target
from routing.endpoint import Endpoint

_FIRST_DELAY: Final = 1.0
_LONGEST_DELAY: Final = 60.0
_LISTEN_SECONDS: Final = 0.1  # between two looks whether a new process listens
_LIVED: Final = 60.0  # a process that ran for so long did not fail to start
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ProcessTemplate:
    """How a member is started and ended.

    ``command`` may hold ``{port}``, a free port that it must listen on, and ``{name}``. Told to
    end (SIGTERM), it has ``end_seconds`` before it is killed. ``labels`` are its endpoint's.
    """

    command: tuple[str, ...]
    name: str = "local"
    host: str = "127.0.0.1"
    end_seconds: float = 10.0
    environment: Mapping[str, str] = field(default_factory=dict)
    labels: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if not self.command or not any("{port}" in word for word in self.command):
            raise ValueError(
                f"command {list(self.command)}: write {{port}} where the server's port belongs"
            )

    def words(self, name: str, port: int) -> list[str]:
        """The command of one member."""
        return [word.replace("{port}", str(port)).replace("{name}", name) for word in self.command]


@dataclass(slots=True)
class _Process:
    name: str
    since: float
    endpoint: Endpoint | None = None
    process: asyncio.subprocess.Process | None = None
    phase: Phase = Phase.PENDING
    announced: bool = False


class ProcessActuator:
    """The processes of one template. ``changed`` is called when their endpoints are others now."""

    def __init__(
        self,
        template: ProcessTemplate,
        *,
        clock: Callable[[], float],
        changed: Callable[[], object] = lambda: None,
    ) -> None:
        self._template = template
        self._clock = clock
        self._changed = changed
        self._processes: dict[str, _Process] = {}
        self._replicas = 0
        self._version = 0
        self._born = 0
        self._failures = 0  # in a row
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = asyncio.Event()

    @property
    def name(self) -> str:
        """The target in words."""
        return f"processes {self._template.name!r}"

    def endpoints(self) -> tuple[Endpoint, ...]:
        """What runs and is not being ended: what discovery should say."""
        return tuple(
            one.endpoint
            for one in self._processes.values()
            if one.endpoint is not None and one.phase is Phase.RUNNING
        )

    async def look(self) -> Target:
        """What there is; it is always known."""
        members = tuple(
            Member(
                one.name,
                () if one.endpoint is None else (one.endpoint.name,),
                one.phase,
                one.since,
                one.announced,
            )
            for one in self._processes.values()
        )
        return Target(self._replicas, str(self._version), members)

    def choosable(self, target: Target, count: int) -> Sequence[Member] | None:
        """Anybody can be ended."""
        del target, count
        return None

    def removable(self, target: Target, drained: Collection[str]) -> Sequence[str]:
        """Whoever is drained."""
        return [member.name for member in target.members if member.name in drained]

    async def announce(self, target: Target, leaving: Sequence[str]) -> None:
        """Nobody else asks, but a later look should say so."""
        del target
        for one in self._processes.values():
            one.announced = one.name in leaving

    async def scale(self, target: Target, replicas: int, removed: Sequence[str]) -> None:
        """Start or end processes, so that there are so many."""
        if target.version != str(self._version):
            raise MovedError(f"{self.name} changed meanwhile")
        self._version += 1
        self._replicas = replicas
        for name in removed:
            if name in self._processes:
                self._end(self._processes[name])
        self._fit()

    async def tell_need(self, needed: int) -> None:
        """One machine has room, or has not."""

    async def close(self) -> None:
        """End all processes and wait for it."""
        self._closing.set()
        self._replicas = 0
        for one in list(self._processes.values()):
            self._end(one)
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- within --------------------------------------------------------------------------------

    def _fit(self) -> None:
        """Start what is missing; give up places that nothing runs in."""
        counted = [one for one in self._processes.values() if one.phase is not Phase.LEAVING]
        for one in counted[self._replicas :]:
            if one.process is None:
                del self._processes[one.name]
        for _ in range(len(counted), self._replicas):
            self._born += 1
            one = _Process(f"{self._template.name}-{self._born}", self._clock())
            self._processes[one.name] = one
            self._spawn(self._live(one))

    async def _live(self, one: _Process) -> None:
        """Start a process, and see to it when it has ended."""
        if self._failures:
            one.phase = Phase.FAILING
            await self._back_off(min(_FIRST_DELAY * 2 ** (self._failures - 1), _LONGEST_DELAY))
        if self._processes.get(one.name) is not one:
            return  # the place was given up
        one.phase = Phase.RUNNING
        template, began = self._template, self._clock()
        port = _free_port(template.host)
        try:
            one.process = await asyncio.create_subprocess_exec(
                *template.words(one.name, port),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                env={**os.environ, **template.environment},
                start_new_session=True,
            )
        except OSError as error:
            _log.error("%s: can't start %s: %s", self.name, template.command[0], error)
        else:
            if self._processes.get(one.name) is not one:
                self._spawn(self._terminate(one.process))
            elif await self._listens(one.process, port) and one.phase is not Phase.LEAVING:
                one.endpoint = endpoint_from_url(
                    f"http://{template.host}:{port}", name=one.name, labels=template.labels
                )
                self._version += 1
                self._changed()
            code = await one.process.wait()
            self._version += 1
            if one.phase is not Phase.LEAVING:
                _log.warning("%s: %s ended by itself with %s", self.name, one.name, code)
        if self._processes.get(one.name) is one:
            del self._processes[one.name]
        if one.phase is not Phase.LEAVING:
            self._failures = 1 if self._clock() - began > _LIVED else self._failures + 1
        self._changed()
        if not self._closing.is_set():
            self._fit()

    async def _back_off(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()

    async def _listens(self, process: asyncio.subprocess.Process, port: int) -> bool:
        """Wait until it accepts connections; False when it ended before."""
        while process.returncode is None:
            with suppress(OSError):
                _, writer = await asyncio.open_connection(self._template.host, port)
                writer.close()
                return True
            await asyncio.sleep(_LISTEN_SECONDS)
        return False

    def _end(self, one: _Process) -> None:
        running = one.process is not None and one.process.returncode is None
        one.phase = Phase.LEAVING
        if one.process is None:
            self._processes.pop(one.name, None)
        elif running:
            self._spawn(self._terminate(one.process))
        self._failures = 0
        self._changed()

    async def _terminate(self, process: asyncio.subprocess.Process) -> None:
        """SIGTERM to whatever it started, and SIGKILL when that was not enough."""
        _signal(process, signal.SIGTERM)
        try:
            async with asyncio.timeout(self._template.end_seconds):
                await process.wait()
        except TimeoutError:
            _log.warning("%s: process %d had to be killed", self.name, process.pid)
        _signal(process, signal.SIGKILL)  # also what it left behind

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _signal(process: asyncio.subprocess.Process, which: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, which)


def _free_port(host: str) -> int:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        try:
            probe.bind((host, 0))
        except OSError as error:
            raise ActuatorError(f"no free port on {host}: {error}") from error
        return int(probe.getsockname()[1])
