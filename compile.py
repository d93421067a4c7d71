"""Compiles the hot path to machine code with mypyc: `make compile`.

The packages are copied to ``build/compiled`` and the modules that every request runs through
are compiled there, so the sources stay what is edited, tested and debugged, and a compiled
module can never be older than its source without `make` noticing. Put that folder first on
``PYTHONPATH`` to run it; ``make run`` does. What is not compiled runs as it is.

Not compiled: modules that define msgspec structs (made from annotations at run time), and what
runs once a connection or less.
"""

import os
import shutil
import sys
from pathlib import Path

from mypyc.build import mypycify
from setuptools import setup

PACKAGES = ("bench", "endpoints", "gateway", "routing")
ROOTS = (
    *(
        "routing",
        "gateway/apis",
        "gateway/proxy",
        "gateway/extproc",
        "gateway/picking",
        "gateway/h2",
        "gateway/rpc",
    ),
    "gateway/brains.py",
    *("gateway/choosing.py", "gateway/meter.py", "gateway/objectives.py", "gateway/ours.py"),
    "gateway/following.py",
    *("gateway/paths.py", "gateway/pickerbooks.py", "gateway/record.py", "gateway/telemetry.py"),
)
LEFT_OUT = frozenset(
    {
        *("gateway/proxy/server.py", "gateway/extproc/server.py"),
        *("gateway/rpc/server.py", "gateway/rpc/schemas.py"),
        *("gateway/rpc/health.py", "gateway/rpc/reflection.py"),
    }
)
TARGET = Path("build/compiled")


def hot_modules() -> list[str]:
    """The modules to compile, below the current folder."""
    found: list[str] = []
    for root in map(Path, ROOTS):
        for path in sorted(root.rglob("*.py")) if root.is_dir() else [root]:
            plain = path.name != "__init__.py" and path.as_posix() not in LEFT_OUT
            if plain and "(Struct" not in (text := path.read_text()) and "(Common" not in text:
                found.append(path.as_posix())
    return found


def main() -> None:
    """Copy, then compile in the copy."""
    shutil.rmtree(TARGET, ignore_errors=True)
    for package in PACKAGES:
        shutil.copytree(package, TARGET / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy("pyproject.toml", TARGET)
    os.chdir(TARGET)
    sys.argv = ["compile", "--quiet", "build_ext", "--inplace", "--build-temp", ".objects"]
    setup(name="inferway", packages=[], ext_modules=mypycify(hot_modules(), opt_level="2"))
    for left in (".objects", "build"):
        shutil.rmtree(left, ignore_errors=True)
    Path(".done").touch()


if __name__ == "__main__":
    main()
