"""How the stream of cache events of one endpoint rank does: figures for operators."""

from collections import Counter
from dataclasses import dataclass, field

_MAX_NAMES = 32


@dataclass(slots=True)
class FeedHealth:
    """What happened so far on one stream.

    Messages: ``messages`` applied, ``duplicates`` seen before, ``undecodable`` ones, ``gaps`` in
    the numbering, ``lost`` messages that no replay brought, ``replays`` asked for and
    ``failed_replays`` of them, ``restarts`` of the publisher. ``connections`` counts how often
    one was made. ``sequence`` is the last number applied.

    Events: ``events`` applied, ``stored_blocks`` and ``removed_blocks`` placed in the view;
    skipped were ``malformed_events``, events of ``unsupported_groups``, of
    ``other_block_size``, ``misshapen_events`` (tokens and blocks don't fit) and, as
    ``unknown_parents``, events that continue a block nobody announced; ``unplaced_blocks`` are
    the blocks of all these. ``unknown_tags`` and ``unknown_media`` count by name.

    ``last_event_at`` is when the last message came, in Unix seconds, and ``lag`` how old it was
    then by its publisher's clock, in seconds.
    """

    sequence: int | None = None
    connections: int = 0
    messages: int = 0
    duplicates: int = 0
    undecodable: int = 0
    gaps: int = 0
    lost: int = 0
    replays: int = 0
    failed_replays: int = 0
    restarts: int = 0
    events: int = 0
    stored_events: int = 0
    stored_blocks: int = 0
    removed_blocks: int = 0
    unplaced_blocks: int = 0
    unknown_parents: int = 0
    unsupported_groups: int = 0
    other_block_size: int = 0
    misshapen_events: int = 0
    malformed_events: int = 0
    foreign_block_tokens: int | None = None
    last_problem: str | None = None
    last_event_at: float | None = None
    lag: float | None = None
    unknown_tags: Counter[str] = field(default_factory=Counter)
    unknown_media: Counter[str] = field(default_factory=Counter)


def count_name(counter: Counter[str], name: str) -> None:
    """Count a name that a peer chose: only so many different ones are kept apart."""
    counter[name if name in counter or len(counter) < _MAX_NAMES else "(others)"] += 1
