"""Many runs in several processes: whoever is idle gets the next one.

Processes are spawned, so that each begins without anything of ours in memory, and none outlives
the run: they are ended when it ends in any way, and end by themselves when their parent is gone.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

_END_SECONDS = 5.0


class WorkerError(RuntimeError):
    """A process ended in the middle of a job; the message names the job."""


class _Worker(Generic[T, R]):
    """One process and the job it has."""

    def __init__(self, work: Callable[[T], R]) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(
            target=_serve, args=(work, theirs), name="replay", daemon=True
        )
        self.process.start()
        theirs.close()
        self.job: T | None = None

    def give(self, job: T) -> None:
        self.job = job
        with suppress(OSError):  # it is gone: seen when its answer is asked for
            self.connection.send(job)

    def answer(self) -> tuple[T, R]:
        """What it made of its job. Raises `WorkerError`, and whatever the work raised."""
        job = self.job
        assert job is not None
        try:
            result: R | Exception = self.connection.recv()
        except (EOFError, OSError):
            self.process.join(_END_SECONDS)
            raise WorkerError(
                f"the process for {job} ended with exit code {self.process.exitcode}"
            ) from None
        self.job = None
        if isinstance(result, Exception):
            raise result
        return job, result

    def end(self) -> None:
        self.process.terminate()
        self.process.join(_END_SECONDS)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.connection.close()
        self.process.close()


def run_all(jobs: Sequence[T], work: Callable[[T], R], processes: int) -> Iterator[tuple[T, R]]:
    """Each job and what ``work`` made of it, as they end; ``work`` is a module's own function.

    An exception of ``work`` is raised here and ends everything, as leaving the iterator does.
    """
    waiting = list(reversed(jobs))
    workers: list[_Worker[T, R]] = []
    try:
        for _ in range(min(processes, len(jobs))):
            worker = _Worker[T, R](work)
            workers.append(worker)
            worker.give(waiting.pop())
        while busy := {one.connection: one for one in workers if one.job is not None}:
            for ready in wait(list(busy)):
                assert isinstance(ready, Connection)
                done = busy[ready].answer()
                if waiting:
                    busy[ready].give(waiting.pop())
                yield done
    finally:
        for worker in workers:
            worker.end()


def _serve(work: Callable[[T], R], connection: "Connection[R | Exception, T]") -> None:
    """The life of a process: jobs in, results out."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: ours to end
    threading.Thread(target=_die_with_parent, daemon=True).start()
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        result: R | Exception
        try:
            result = work(job)
        except Exception as error:  # the parent's to handle
            result = error
        try:
            connection.send(result)
        except BrokenPipeError:
            return
        except Exception as error:  # not everything can be sent
            connection.send(RuntimeError(f"{job}: {result!r} can't be sent: {error}"))


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
