"""Compiles the hot path to machine code with mypyc: `make compile`.

The packages are copied to ``build/compiled`` and the modules that every request runs through
are compiled there, so the sources stay what is edited, tested and debugged, and a compiled
module can never be older than its source without `make` noticing. Put that folder first on
``PYTHONPATH`` to run it; ``make run`` does. What is not compiled runs as it is.

GCC compiles twice: a first build counts which paths a little of the benchmarks' work takes
(`bench.overhead.training`), the second one lays out the code by that. Other compilers, and GCC with
``--once``, compile once.

Not compiled: modules that define msgspec structs (made from annotations at run time), and what
runs once a connection or less.
"""

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from mypyc.build import mypycify
from setuptools import Extension, setup

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
OBJECTS = ".objects"

PLAIN = ("-fwrapv", "-fvisibility=hidden", "-fno-semantic-interposition")
"""Sums that wrap as CPython's own do, functions that nothing replaces."""
COUNTING = (*PLAIN, "-fprofile-generate", "-fprofile-update=single")
GUIDED = (
    *PLAIN,
    *("-fprofile-use", "-fprofile-correction", "-fprofile-partial-training"),
    "-Wno-missing-profile",
)
"""By what was counted; what the training never entered is compiled as if nothing had been."""


def hot_modules() -> list[str]:
    """The modules to compile, below the current folder."""
    found: list[str] = []
    for root in map(Path, ROOTS):
        for path in sorted(root.rglob("*.py")) if root.is_dir() else [root]:
            plain = path.name != "__init__.py" and path.as_posix() not in LEFT_OUT
            if plain and "(Struct" not in (text := path.read_text()) and "(Common" not in text:
                found.append(path.as_posix())
    return found


def compiler_is_gcc() -> bool:
    """Whether the compiler that extensions are built with is GCC, whatever its name."""
    command = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    try:
        told = subprocess.run([*command, "-v"], check=False, capture_output=True, text=True)
    except OSError:
        return False  # building will say what is wrong
    return "gcc version" in told.stderr


def build(extensions: list[Extension], flags: tuple[str, ...]) -> None:
    """Compile all C code anew, and put the modules beside their sources.

    The flags stand in for those that this Python was built with, which take twice the time.
    """
    os.environ["CFLAGS"] = " ".join(flags)
    sys.argv = ["compile", "--quiet", "build_ext", "--inplace", "--force", "--build-temp", OBJECTS]
    setup(name="inferway", packages=[], ext_modules=extensions)


def train() -> bool:
    """Have the counting build work; what it counts is written beside its objects.

    False when it could not, as where no server may be started; it said why.
    """
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    command = [sys.executable, "-m", "bench.overhead.training"]
    return subprocess.run(command, check=False, env=environment).returncode == 0


def main() -> None:
    """Copy, then compile in the copy."""
    guided = "--once" not in sys.argv[1:] and compiler_is_gcc()
    shutil.rmtree(TARGET, ignore_errors=True)
    for package in PACKAGES:
        shutil.copytree(package, TARGET / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy("pyproject.toml", TARGET)
    os.chdir(TARGET)
    extensions = mypycify(hot_modules(), opt_level="2", debug_level="0")
    if guided:
        build(extensions, COUNTING)
        guided = train()
        if not guided:
            sys.stderr.write("compile.py: the training failed, so the build is not guided by it\n")
    build(extensions, GUIDED if guided else PLAIN)
    for left in (OBJECTS, "build"):
        shutil.rmtree(left, ignore_errors=True)
    Path(".done").write_text("guided\n" if guided else "once\n")


if __name__ == "__main__":
    main()
