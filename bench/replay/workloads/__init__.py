"""Where requests to replay come from: recorded traces, our own traffic log, synthetic loads.

`load` takes a name or a file and recognises a file's format by its content.
"""

import gzip
import zlib
from functools import lru_cache
from pathlib import Path

from bench.replay.workloads.azure import COLUMNS, load_azure
from bench.replay.workloads.loaded import Loaded
from bench.replay.workloads.mooncake import load_mooncake
from bench.replay.workloads.shared_prefix import SharedPrefix, shared_prefix
from bench.replay.workloads.traffic import load_traffic
from bench.traces.mooncake import SAMPLE, TraceError
from gateway.trafficlog import FORMAT

__all__ = ["SHARED_PREFIX", "Loaded", "TraceError", "load"]

SAMPLE_NAME = "sample"
SHARED_PREFIX = "shared-prefix"
DEFAULT_RATE = 9.0
DEFAULT_REQUESTS = 3_000


@lru_cache(maxsize=4)  # a worker plays many policies on the same load
def load(
    source: str,
    *,
    requests: int | None = None,
    rate: float | None = None,
    seed: int = 0,
) -> Loaded:
    """A workload by name (``sample``, ``shared-prefix``) or from a file, plain or gzip.

    ``requests``: only the first so many. ``rate`` (requests/s) and ``seed`` shape a synthetic
    load; recorded ones have times of their own. Raises `TraceError`, naming file, line and field,
    and ValueError for a parameter that makes no sense.
    """
    if requests is not None and requests < 1:
        raise ValueError(f"requests is {requests}; it must be at least 1")
    if source == SHARED_PREFIX:
        wanted = SharedPrefix(
            rate=DEFAULT_RATE if rate is None else rate,
            requests=DEFAULT_REQUESTS if requests is None else requests,
        )
        return Loaded(shared_prefix(wanted, seed, source))
    if rate is not None:
        raise ValueError(f"rate is for {SHARED_PREFIX} only; for a recorded load give a speed")
    if source == SAMPLE_NAME:
        return load_mooncake(SAMPLE, source, requests)
    return _from_file(Path(source), requests)


def _from_file(path: Path, requests: int | None) -> Loaded:
    name = path.name.partition(".")[0]
    data = _content(path)
    first = next((line for line in data.split(b"\n", 2) if line.strip()), b"")
    if FORMAT.encode() in first:
        return load_traffic(data, path, name, requests)
    if b'"hash_ids"' in first:
        return load_mooncake(path, name, requests)
    if all(column.encode() in first for column in COLUMNS):
        return load_azure(data.decode(errors="replace"), path, name, requests)
    raise TraceError(
        f"{path}, line 1: neither a Mooncake trace (JSON with hash_ids), nor an Azure one (CSV "
        f"with {', '.join(COLUMNS)}), nor a gateway's traffic log (JSON with format {FORMAT!r})"
    )


def _content(path: Path) -> bytes:
    try:
        data = path.read_bytes()
        if data.startswith(b"\x1f\x8b"):
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise TraceError(f"{path}: {error}") from error
    if not data.strip():
        raise TraceError(f"{path}: it is empty")
    return data
