"""What is read from, and put beside, the engine's wheel."""

import shutil
import zipfile
from email.parser import HeaderParser
from pathlib import Path

from packaging.requirements import Requirement

_NOT_NEEDED = frozenset(
    {
        # Text on a CPU needs neither pictures nor sound, and torch is chosen apart.
        *("torch", "torchaudio", "torchvision", "torchcodec", "opencv-python-headless"),
        # Pinned to releases that not every index still has; the installer brings its own.
        *("intel-openmp", "setuptools"),
    }
)


def requirements(wheel: Path) -> list[str]:
    """What the engine needs here, without what a text model on a CPU does not.

    Markers are judged by this interpreter, which also runs the engine. Raises `zipfile.BadZipFile`
    and ValueError for what is no wheel.
    """
    needed = []
    for line in HeaderParser().parsestr(_metadata(wheel)).get_all("Requires-Dist", []):
        one = Requirement(line)
        if one.name in _NOT_NEEDED:
            continue
        if one.marker is None or one.marker.evaluate({"extra": ""}):
            one.marker = None
            needed.append(str(one))
    return needed


def _metadata(wheel: Path) -> str:
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.endswith(".dist-info/METADATA"):
                return archive.read(name).decode()
    raise ValueError(f"{wheel.name} has no metadata")


def alias(site: Path, distribution: str, version: str, name: str, alias_version: str) -> None:
    """Make an installed distribution known by another name too.

    vLLM takes the CPU for its platform when a distribution called ``vllm`` has "cpu" in its
    version; its wheel for CPUs is called otherwise.
    """
    source = site / f"{distribution}-{version}.dist-info"
    target = site / f"{name}-{alias_version}.dist-info"
    shutil.copytree(source, target, dirs_exist_ok=True)
    # Only the original owns the files, or removing the alias would take them away.
    (target / "RECORD").unlink(missing_ok=True)
    lines = (source / "METADATA").read_text().splitlines()
    fields = {"Name": name, "Version": alias_version}
    for number, line in enumerate(lines):
        if not line:
            break  # the description follows
        field = line.partition(":")[0]
        if field in fields:
            lines[number] = f"{field}: {fields[field]}"
    (target / "METADATA").write_text("\n".join(lines) + "\n")


def unpack_one(wheel: Path, suffix: str, target: Path) -> None:
    """Write the only member whose name ends so to ``target``. ValueError unless it is one."""
    with zipfile.ZipFile(wheel) as archive:
        found = [name for name in archive.namelist() if name.endswith(suffix)]
        if len(found) != 1:
            raise ValueError(f"{wheel.name} has {len(found)} files *{suffix}, not one")
        with archive.open(found[0]) as source, target.open("wb") as sink:
            shutil.copyfileobj(source, sink)
