"""What a reader of workloads gives."""

from dataclasses import dataclass

from bench.replay.workload import Workload


@dataclass(frozen=True, slots=True)
class Loaded:
    """A workload, and whatever whoever reads its figures must know of how it was read."""

    workload: Workload
    notes: tuple[str, ...] = ()
