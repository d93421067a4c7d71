"""Model servers as processes: started, ended with what they started, and not started in vain."""

import asyncio
import sys
import time
from pathlib import Path

import pytest

from endpoints.scaling.actuators.actuator import MovedError, Phase, Target
from endpoints.scaling.actuators.processes import ProcessActuator, ProcessTemplate
from tests.support.clusters import eventually

# Listens on its port, and starts a child that would outlive it.
_SERVER = """
import os, socket, subprocess, sys, time
child = subprocess.Popen(["sleep", "60"])
open(sys.argv[2], "a").write(f"{os.getpid()} {child.pid}\\n")
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    listener.accept()[0].close()
"""


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


async def test_processes_are_started_and_ended_with_what_they_started(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    told: list[int] = []
    actuator = ProcessActuator(
        ProcessTemplate((sys.executable, "-c", _SERVER, "{port}", str(pids)), "srv", end_seconds=5),
        clock=time.monotonic,
        changed=lambda: told.append(len(actuator.endpoints())),
    )
    try:
        await actuator.scale(await actuator.look(), 2, ())
        await eventually(lambda: len(actuator.endpoints()) == 2)
        target = await actuator.look()
        assert target.replicas == 2
        assert [member.phase for member in target.members] == [Phase.RUNNING] * 2
        assert [member.endpoints for member in target.members] == [("srv-1",), ("srv-2",)]
        assert all(
            endpoint.url.startswith("http://127.0.0.1:") for endpoint in actuator.endpoints()
        )
        assert actuator.choosable(target, 1) is None
        with pytest.raises(MovedError):
            await actuator.scale(Target(2, "old"), 3, ())

        await actuator.announce(target, ["srv-1"])
        assert [member.announced for member in (await actuator.look()).members] == [True, False]
        assert list(actuator.removable(target, {"srv-1"})) == ["srv-1"]
        await actuator.scale(await actuator.look(), 1, ["srv-1"])
        await eventually(lambda: [one.name for one in actuator.endpoints()] == ["srv-2"])
        assert told[-1] == 1
    finally:
        await actuator.close()
    started = [int(pid) for line in pids.read_text().splitlines() for pid in line.split()]
    assert len(started) == 4
    await eventually(lambda: not any(map(_alive, started)))
    assert (await actuator.look()).members == ()


async def test_one_that_ends_by_itself_comes_again_ever_later() -> None:
    actuator = ProcessActuator(
        ProcessTemplate((sys.executable, "-c", "import sys; sys.exit(3)", "{port}")),
        clock=time.monotonic,
    )
    try:
        await actuator.scale(await actuator.look(), 1, ())

        async def failing() -> bool:
            return [one.phase for one in (await actuator.look()).members] == [Phase.FAILING]

        await eventually(failing)
        assert actuator.endpoints() == ()
        await actuator.scale(await actuator.look(), 0, ())  # its place is given up at once
        assert (await actuator.look()).members == ()
    finally:
        await asyncio.wait_for(actuator.close(), 5)


async def test_a_command_that_is_not_there_is_no_crash() -> None:
    actuator = ProcessActuator(ProcessTemplate(("/no/such/server", "{port}")), clock=time.monotonic)
    try:
        await actuator.scale(await actuator.look(), 1, ())

        async def failing() -> bool:
            return [one.phase for one in (await actuator.look()).members] == [Phase.FAILING]

        await eventually(failing)
    finally:
        await asyncio.wait_for(actuator.close(), 5)


@pytest.mark.parametrize("command", [(), ("vllm", "serve")])
def test_a_command_must_say_where_the_port_goes(command: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"\{port\}"):
        ProcessTemplate(command)


def test_names_and_ports_are_put_in() -> None:
    template = ProcessTemplate(("serve", "--port={port}", "--id", "{name}"), "x")
    assert template.words("x-1", 80) == ["serve", "--port=80", "--id", "x-1"]
