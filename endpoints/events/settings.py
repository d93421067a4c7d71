"""Where engines publish their cache events, and how patiently they are followed."""

from dataclasses import dataclass, fields
from typing import Literal

from endpoints.events.source import check_template


@dataclass(frozen=True, slots=True)
class EventSettings:
    """All times in seconds, sizes in bytes; ValueError names the field that can't be.

    ``address`` is where endpoints publish, ``replay_address`` where they send again what was
    missed (None: nowhere; losses then stay). In both ``{host}`` stands for the host of the
    endpoint's URL; ``tcp://`` and ``ipc://`` addresses can be used. Of ``ranks`` data-parallel
    ranks the ports follow each other. ``topic`` is the beginning of the topics to take.

    A view that lost messages for good is kept and marked incomplete, or, with ``after_loss``
    "clear", begun anew. A replay may take ``replay_timeout`` in all and ``replay_idle``
    between two messages; ``replays_at_once`` run at the same time, and after a failed one none
    is tried for ``replay_cooldown``. Lost connections are made again after ``reconnect_first``,
    then twice as long each time, up to ``reconnect_ceiling``.

    At most ``queue_messages`` wait for each rank, none longer than ``max_message_bytes``; what
    a wake-up reads is bounded by ``bytes_per_wake``, so that requests never wait for events.
    ``view_bytes`` bounds all that is kept about all endpoints. An endpoint that got requests but
    sent no event for ``silent_after`` is complained about.
    """

    address: str = "tcp://{host}:5557"
    replay_address: str | None = None
    topic: str = ""
    ranks: int = 1
    after_loss: Literal["keep", "clear"] = "keep"
    replay_timeout: float = 30.0
    replay_idle: float = 2.0
    replay_cooldown: float = 30.0
    replays_at_once: int = 8
    reconnect_first: float = 0.1
    reconnect_ceiling: float = 5.0
    queue_messages: int = 1000
    max_message_bytes: int = 16 << 20
    bytes_per_wake: int = 64 << 10
    view_bytes: int = 256 << 20
    silent_after: float = 60.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int | float) and not value > 0:
                raise ValueError(f"{field.name} is {value!r}; it must be greater than 0")
        check_template("address", self.address)
        if self.replay_address is not None:
            check_template("replay_address", self.replay_address)
            if self.replay_address == self.address:
                raise ValueError("replay_address is the same as address; it has a port of its own")
        if self.after_loss not in {"keep", "clear"}:
            raise ValueError(f"after_loss is {self.after_loss!r}; use 'keep' or 'clear'")
