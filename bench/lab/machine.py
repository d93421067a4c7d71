"""Whether this machine can run the lab, told before anything is downloaded."""

import platform
import shutil
from pathlib import Path

import psutil

GIB = 1 << 30
SERVER_BYTES = 7 * GIB // 2
"""Memory that one server of the small model takes: its three processes, measured."""
SPARE_BYTES = GIB
"""Memory for the gateway, its clients and the system."""
INSTALLED_BYTES = 6 * GIB
"""The environment, the model and the wheels on disk, with a build of torch for CPUs."""
TORCH_FOR_GPUS_BYTES = 8 * GIB
"""What a build of torch for GPUs takes more, where the package index has no other."""


def obstacles(root: Path, servers: int, *, installed: bool) -> list[str]:
    """Why the lab can't run here with so many servers; empty when it can."""
    return [
        reason
        for reason in (
            _of_processor(),
            _of_memory(servers),
            None if installed else disk_obstacle(root, INSTALLED_BYTES),
        )
        if reason is not None
    ]


def disk_obstacle(root: Path, needed: int) -> str | None:
    """Why ``needed`` bytes don't fit below ``root``, which need not exist yet."""
    while not root.exists():
        root = root.parent
    free = shutil.disk_usage(root).free
    if free >= needed:
        return None
    return f"{root} has {free / GIB:.1f} GiB free, and {needed / GIB:.1f} GiB are needed"


def _of_processor() -> str | None:
    if platform.system() != "Linux":
        return f"vLLM's CPU wheels are for Linux, and this is {platform.system()}"
    machine = platform.machine()
    if machine == "aarch64":
        return None
    if machine != "x86_64":
        return f"vLLM's CPU wheels are for x86_64 and aarch64, and this is {machine}"
    flags = processor_flags(Path("/proc/cpuinfo").read_text())
    return None if "avx2" in flags else "this processor has no AVX2, which vLLM's CPU wheels need"


def processor_flags(cpuinfo: str) -> frozenset[str]:
    """The flags of the first processor in the text of /proc/cpuinfo."""
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "flags":
            return frozenset(value.split())
    return frozenset()


def _of_memory(servers: int) -> str | None:
    needed = servers * SERVER_BYTES + SPARE_BYTES
    free = psutil.virtual_memory().available
    if free >= needed:
        return None
    return (
        f"{servers} server{'s' * (servers != 1)} take {needed / GIB:.1f} GiB of memory, and "
        f"{free / GIB:.1f} GiB are available"
    )
