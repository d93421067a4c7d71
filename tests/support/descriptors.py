"""File descriptors: room for many, and how many are open."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest


@contextmanager
def room_for(descriptors: int) -> Iterator[None]:
    """Raise this process's soft limit, which children inherit; skip where that is forbidden."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < descriptors:
        pytest.skip(f"needs {descriptors} file descriptors; the hard limit is {hard}")
    if soft != resource.RLIM_INFINITY and soft < descriptors:
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def open_descriptors(pid: int | None = None) -> int:
    """Descriptors open in a process, this one by default."""
    return psutil.Process(pid).num_fds()
