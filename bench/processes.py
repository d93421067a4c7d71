"""Processes that outlive the command that starts them, remembered in a file."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
import psutil
from msgspec import Struct

_TERM_SECONDS = 15.0
_LAST_LINES = 5


class Started(Struct, frozen=True):
    """A process: its id and when it began, which together are nobody else's."""

    pid: int
    began: float
    log: str

    def process(self) -> psutil.Process | None:
        """It, if it still runs."""
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(self.pid)
            if process.create_time() == self.began and process.status() != psutil.STATUS_ZOMBIE:
                return process
        return None

    @property
    def running(self) -> bool:
        """Whether it still runs."""
        return self.process() is not None

    def rss_bytes(self) -> int:
        """Resident memory of it and its children, what they share counted in each."""
        total = 0
        for process in self.tree():
            with suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
        return total

    def tree(self) -> list[psutil.Process]:
        """It and all its children; empty when it has ended."""
        process = self.process()
        if process is None:
            return []
        with suppress(psutil.NoSuchProcess):
            return [process, *process.children(recursive=True)]
        return []

    def last_words(self) -> str:
        """The end of what it wrote, lines that name errors before others."""
        with suppress(OSError):
            lines = Path(self.log).read_text(errors="replace").strip().splitlines()
            named = [line for line in lines if "Error" in line or "error" in line]
            return "\n".join((named or lines)[-_LAST_LINES:])
        return "it wrote nothing"

    def kill(self) -> None:
        """End it and its children at once, as a crash would."""
        tree = self.tree()
        for process in tree:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(tree, _TERM_SECONDS)

    def stop(self) -> None:
        """Ask it to end, and end by force what of it has not ended in time."""
        tree = self.tree()
        if not tree:
            return
        with suppress(psutil.NoSuchProcess):
            tree[0].terminate()
        _, alive = psutil.wait_procs(tree, _TERM_SECONDS)
        for process in alive:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(alive, _TERM_SECONDS)


def start(command: Sequence[str], environment: Mapping[str, str], log: Path, nice: int) -> Started:
    """Start a command, named by its path, in a session of its own. Raises OSError."""
    log.parent.mkdir(parents=True, exist_ok=True)
    # Not by `subprocess`, which would wait for, or complain of, a process that it leaves behind.
    pid = os.posix_spawn(
        command[0],
        [*command],
        environment,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )
    process = psutil.Process(pid)
    # Before it had time to start others, so theirs is the same.
    process.nice(min(os.nice(0) + nice, 19))
    return Started(pid, process.create_time(), str(log))


def write(file: Path, state: Struct) -> None:
    """Remember: whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_suffix(".new")
    beside.write_bytes(msgspec.json.format(msgspec.json.encode(state)) + b"\n")
    beside.replace(file)
