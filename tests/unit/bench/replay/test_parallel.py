"""Runs in several processes: all are done, errors come through, and no process is left."""

import math
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from bench.replay.parallel import WorkerError, run_all

SLEEPERS = """
import signal
import time
from bench.replay.parallel import run_all
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
if __name__ == "__main__":
    print("started", flush=True)
    list(run_all([600.0, 600.0], time.sleep, 2))
"""


def test_every_job_is_done_once() -> None:
    found = dict(run_all([float(n) for n in range(20)], math.sqrt, 2))
    assert found == {float(n): math.sqrt(n) for n in range(20)}
    assert multiprocessing.active_children() == []


def test_an_error_of_the_work_ends_everything() -> None:
    with pytest.raises(ValueError, match="math domain error"):
        list(run_all([-1.0, 4.0], math.sqrt, 2))
    assert multiprocessing.active_children() == []


def test_a_process_that_dies_is_told_with_its_job() -> None:
    with pytest.raises(WorkerError, match="7"):
        list(run_all([7], os._exit, 1))


def test_a_result_that_can_not_be_sent_is_told() -> None:
    with pytest.raises(RuntimeError, match="can't be sent"):
        list(run_all(["."], os.scandir, 1))


def test_leaving_early_ends_the_processes() -> None:
    results = run_all([0.0, 600.0], time.sleep, 2)
    assert next(results) == (0.0, None)
    results.close()  # type: ignore[attr-defined]
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_the_command(number: signal.Signals) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", SLEEPERS],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    with parent:
        try:
            assert parent.stdout is not None and parent.stdout.readline()
            deadline = time.monotonic() + 20
            children: list[psutil.Process] = []
            while len(children) < 2 and time.monotonic() < deadline:
                children = [
                    one
                    for one in psutil.Process(parent.pid).children()
                    if "spawn_main" in " ".join(one.cmdline())
                ]
                time.sleep(0.02)
            assert len(children) == 2
            if number == signal.SIGINT:
                os.killpg(parent.pid, number)  # as a terminal does
            else:
                parent.send_signal(number)
            gone, left = psutil.wait_procs(children, timeout=20)
            assert len(gone) == 2 and not left
        finally:
            parent.kill()
