"""The Mooncake traces (see `bench.traces.mooncake`) as a workload."""

from pathlib import Path

from bench.replay.workload import Arrival, Workload
from bench.replay.workloads.loaded import Loaded
from bench.traces.mooncake import BLOCK_TOKENS, arrival_seconds, read


def load_mooncake(path: Path, name: str, requests: int | None) -> Loaded:
    """The first ``requests`` rows of a trace. Raises `TraceError`.

    Arrivals are spread evenly over the recorder's steps of several seconds.
    """
    rows = read(path)
    arrivals = [
        Arrival(at, row.input_length, max(1, row.output_length), row.hash_ids)
        for row, at in zip(rows, arrival_seconds(rows), strict=True)
    ]
    return Loaded(Workload(name, tuple(arrivals[:requests]), BLOCK_TOKENS))
