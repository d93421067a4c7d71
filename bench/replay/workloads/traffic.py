"""What a gateway saw (`gateway.trafficlog`) as a workload.

A log counts blocks in nominal tokens (four bytes each), an engine in real ones. The workload's
block is what a logged block comes to in real tokens on average over the log; each prompt then gets
as many blocks as its length needs: it loses logged ones beyond it, and gets ids of its own for
what no logged block covers.
"""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from bench.replay.workload import Arrival, Workload
from bench.replay.workloads.loaded import Loaded
from bench.traces.mooncake import TraceError
from gateway.trafficlog import FORMAT, VERSION

_OWN_IDS = 1 << 53
"""Ids that no log has: logged ones are below."""
_TAIL = 0.5
"""Blocks that a log does not show of a prompt: its tail is half a block long on average."""


class _Header(msgspec.Struct, frozen=True):
    format: str
    version: int


class Line(msgspec.Struct, frozen=True):
    """One logged request, as far as a replay needs it."""

    at: float
    model: str
    status: int
    prompt_tokens: int
    output_tokens: int | None
    block_tokens: float
    prompts: tuple[tuple[int, ...], ...]

    @property
    def computed(self) -> bool:
        """Whether it was work for an engine: refused calls were none, abandoned ones were."""
        return bool(self.prompt_tokens) and not (
            400 <= self.status < 500 and self.status not in {429, 499}
        )


_header = msgspec.json.Decoder(_Header)
_line = msgspec.json.Decoder(Line)


def load_traffic(data: bytes, path: Path, name: str, requests: int | None) -> Loaded:
    """The first ``requests`` logged requests that were work. Raises `TraceError`."""
    lines = list(_lines(data, path))
    worked = sorted((line for line in lines if line.computed), key=lambda line: line.at)[:requests]
    if not worked:
        raise TraceError(f"{path}: none of its {len(lines)} requests was work for an engine")
    block_tokens = real_block_tokens(worked)
    own = iter(range(_OWN_IDS, 1 << 62))
    arrivals = [
        arrival for line in worked for arrival in _arrivals(line, worked[0].at, block_tokens, own)
    ]
    return Loaded(Workload(name, tuple(arrivals), block_tokens), tuple(_notes(path, lines, worked)))


def _lines(data: bytes, path: Path) -> Iterator[Line]:
    first, *rest = data.split(b"\n")
    try:
        found = _header.decode(first)
    except msgspec.DecodeError as error:
        raise TraceError(f"{path}, line 1: {error}") from error
    if found.format != FORMAT or found.version != VERSION:
        raise TraceError(
            f"{path}, line 1: format {found.format!r} version {found.version}; this release reads "
            f"{FORMAT!r} version {VERSION}"
        )
    block_tokens: float | None = None
    for number, text in enumerate(rest, start=2):
        if not text:
            continue
        try:
            line = _line.decode(text)
        except msgspec.DecodeError as error:
            if number == len(rest) + 1:
                return  # no newline after it: the gateway is still writing this one
            raise TraceError(f"{path}, line {number}: {error}") from error
        if block_tokens is not None and line.block_tokens != block_tokens:
            raise TraceError(
                f"{path}, line {number}: block_tokens is {line.block_tokens:g}, but "
                f"{block_tokens:g} before; a log of one block size is needed"
            )
        block_tokens = line.block_tokens
        yield line


def real_block_tokens(lines: list[Line]) -> int:
    """Real tokens in a logged block, over all prompts that have a whole one."""
    tokens = 0
    blocks = 0.0
    for line in lines:
        logged = sum(len(prompt) for prompt in line.prompts)
        if logged:
            tokens += line.prompt_tokens
            blocks += logged + _TAIL * len(line.prompts)
    return max(1, round(tokens / blocks if blocks else lines[0].block_tokens))


def _arrivals(line: Line, start: float, block_tokens: int, own: Iterator[int]) -> Iterator[Arrival]:
    """One arrival a prompt: an engine computes the prompts of a batch as requests of their own."""
    prompts = line.prompts or ((),)
    lengths = [len(prompt) + _TAIL for prompt in prompts]
    output = max(1, (line.output_tokens or 0) // len(prompts))
    for prompt, length in zip(prompts, lengths, strict=True):
        tokens = max(1, round(line.prompt_tokens * length / sum(lengths)))
        kept = prompt[: tokens // block_tokens]
        missing = -(-tokens // block_tokens) - len(kept)
        yield Arrival(
            line.at - start, tokens, output, (*kept, *(next(own) for _ in range(missing)))
        )


def _notes(path: Path, lines: list[Line], worked: list[Line]) -> Iterator[str]:
    refused = sum(not line.computed for line in lines)
    if refused:
        yield f"{path.name}: {refused} refused or empty requests are left out"
    models = len({line.model for line in worked})
    if models > 1:
        yield f"{path.name}: its {models} models are replayed as one"
    unknown = sum(line.output_tokens is None for line in worked)
    if unknown:
        yield f"{path.name}: {unknown} requests of unknown output are replayed with one token each"
