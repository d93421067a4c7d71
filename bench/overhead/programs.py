"""The programs that gateways are: found where they are installed, or made from source."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

_COMPILE_SECONDS = 60.0


class AbsentError(Exception):
    """A gateway can't take part; the message says why."""


def find(executable: str) -> Path:
    """Beside this Python first, where the dependency group puts it, then anywhere."""
    beside = str(Path(sys.executable).parent)
    found = shutil.which(executable, path=os.pathsep.join((beside, os.environ.get("PATH", ""))))
    if found is None:
        raise AbsentError(f"{executable} is not installed")
    return Path(found)


def compile_c(source: Path, directory: Path) -> Path:
    """The program of one C source, made in ``directory`` by the compiler that is there."""
    program = directory / source.stem
    command = [str(find("cc")), "-O2", "-o", str(program), str(source)]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=_COMPILE_SECONDS
    )
    if done.returncode != 0:
        lines = done.stderr.splitlines()
        why = next((line for line in lines if "error:" in line), "the compiler does not say why")
        raise AbsentError(f"{source.name} can't be compiled: {why}")
    return program
