"""Which build of ours is measured: the compiled one, made anew when its sources are newer."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

_SOURCES = Path(__file__).resolve().parents[2]
_COMPILED = _SOURCES / "build" / "compiled"


class NoCompiledBuildError(Exception):
    """There is none and none can be made; the message says why."""


def is_guided() -> bool:
    """Whether the compiled build was laid out by a profile, as a released one is."""
    return (_COMPILED / ".done").read_text().strip() == "guided"


def compiled_environment(progress: Callable[[str], object]) -> Mapping[str, str]:
    """What the gateway's process is started with so that it runs the compiled build.

    Raises `NoCompiledBuildError`.
    """
    if _is_stale():
        progress("compiling the gateway's hot path: make compile")
        _compile()
    return {"PYTHONPATH": os.fspath(_COMPILED)}


def _is_stale() -> bool:
    """Whether a source is newer than the build, as `make compile` sees it."""
    done = _COMPILED / ".done"
    if not done.exists():
        return True
    made = done.stat().st_mtime
    packages = ("bench", "endpoints", "gateway", "routing")
    sources = (path for package in packages for path in (_SOURCES / package).rglob("*.py"))
    return any(path.stat().st_mtime > made for path in sources)


def _compile() -> None:
    script = _SOURCES / "compile.py"
    if not script.exists():
        raise NoCompiledBuildError("this is no checkout, so there is nothing to compile")
    if importlib.util.find_spec("mypyc") is None:
        raise NoCompiledBuildError("mypy, of the dependency group dev, is not installed")
    done = subprocess.run(
        [sys.executable, script.name], check=False, cwd=_SOURCES, capture_output=True, text=True
    )
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise NoCompiledBuildError(f"compiling failed: {' '.join(last)}")
