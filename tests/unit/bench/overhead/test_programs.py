"""Programs of the bench: found, or made; whatever can't be had is named."""

import shutil
import subprocess
from pathlib import Path

import pytest

from bench.overhead.programs import AbsentError, compile_c, find

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")


def test_a_program_that_is_not_installed_is_named() -> None:
    with pytest.raises(AbsentError, match="no-such-gateway is not installed"):
        find("no-such-gateway")


@needs_compiler
def test_a_source_becomes_a_program(tmp_path: Path) -> None:
    source = tmp_path / "seven.c"
    source.write_text("int main(void) { return 7; }\n")
    program = compile_c(source, tmp_path)
    assert subprocess.run([program], check=False).returncode == 7


@needs_compiler
def test_a_source_that_is_wrong_says_where(tmp_path: Path) -> None:
    source = tmp_path / "wrong.c"
    source.write_text("int main(void) { return seven; }\n")
    with pytest.raises(AbsentError, match=r"wrong\.c can't be compiled: .*seven"):
        compile_c(source, tmp_path)
