"""A gateway as a tree of processes, and what it uses."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import psutil

_STOP_SECONDS = 5.0
_LOG_LINES = 3


class ProcessTree:
    """A command and all its children, while the block runs."""

    def __init__(
        self, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        """Start it; what it writes goes to ``log``. Raises OSError when it can't be started.

        ``environment`` is added to this process's own.
        """
        self._log = log
        with log.open("wb") as file:
            self._popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
            )
        self._root = psutil.Process(self._popen.pid)

    def __enter__(self) -> "ProcessTree":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        tree = self._tree()
        self._popen.terminate()
        try:
            self._popen.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        for process in tree:  # children that outlived their parent
            with suppress(psutil.NoSuchProcess):
                process.kill()

    @property
    def running(self) -> bool:
        """Whether the command has not ended."""
        return self._popen.poll() is None

    def last_words(self) -> str:
        """The end of what it wrote."""
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return " | ".join(lines[-_LOG_LINES:]) or "it wrote nothing"

    def cpu_seconds(self) -> float:
        """User and system time of the whole tree so far, of ended children too."""
        total = 0.0
        for process in self._tree():
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                own = max(times.user + times.system, _thread_seconds(process.pid))
                total += own + times.children_user + times.children_system
        return total

    def rss_bytes(self) -> int:
        """Resident memory of the whole tree now."""
        total = 0
        for process in self._tree():
            with suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
        return total

    def peak_rss_bytes(self) -> int:
        """The sum of each process's greatest resident memory."""
        total = 0
        for process in self._tree():
            with suppress(FileNotFoundError, ProcessLookupError):
                for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
                    if line.startswith("VmHWM:"):
                        total += int(line.split()[1]) * 1024
        return total

    def _tree(self) -> list[psutil.Process]:
        try:
            return [self._root, *self._root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []


def _thread_seconds(pid: int) -> float:
    """What the threads of a process have run, to the nanosecond; 0 where the kernel doesn't tell.

    The time of a process comes in hundredths of a second, rounded down twice: as much as a
    thousand chunks take. It has those of ended threads, though.
    """
    total = 0
    for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            total += int(task.read_text().split()[0])
    return total / 1e9
