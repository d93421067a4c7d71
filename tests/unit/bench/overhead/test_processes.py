"""What a tree of processes has used."""

import sys
import time
from pathlib import Path

import pytest

from bench.overhead.processes import ProcessTree

_BUSY = """
import subprocess, sys, threading, time
def burn(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end: pass
burn(0.04)
thread = threading.Thread(target=burn, args=(0.03,)); thread.start(); thread.join()
subprocess.run([sys.executable, "-c", "import time\\nwhile time.process_time() < 0.05: pass"])
print("done", flush=True)
time.sleep(60)
"""


def test_the_time_of_threads_and_children_counts(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with ProcessTree([sys.executable, "-c", _BUSY], log) as tree:
        deadline = time.monotonic() + 30.0
        while "done" not in log.read_text() and time.monotonic() < deadline:
            time.sleep(0.01)
        used = tree.cpu_seconds()
        time.sleep(0.1)
        later = tree.cpu_seconds()
        assert tree.running
    # 40 ms of its own, 30 of a thread that ended, 50 of a child that ended; each is rounded down.
    assert used >= 0.04 + 0.03 + 0.05 - 0.04
    assert 0.0 <= later - used < 0.02, "it sleeps"
    assert tree.cpu_seconds() == 0.0


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="the kernel does not tell")
def test_short_work_is_seen(tmp_path: Path) -> None:
    with ProcessTree(
        [sys.executable, "-c", "import time\nwhile True: time.sleep(0.001)"], tmp_path / "log"
    ) as tree:
        time.sleep(0.5)
        seen = [tree.cpu_seconds()]
        for _ in range(3):
            time.sleep(0.05)
            seen.append(tree.cpu_seconds())
    assert len(set(seen)) == 4, "each 50 ms of short naps show, though they take no whole tick"
