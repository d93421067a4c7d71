"""What a simulated server is told: its model, its size, how fast it is and how it fails.

Values are checked where they are converted (`msgspec.convert` or JSON decoding), which is how
the command line and ``/admin/config`` make them; keyword construction in code is trusted.
"""

from enum import Enum
from typing import Annotated

from msgspec import Meta, Struct
from xxhash import xxh3_64_intdigest

Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Seconds = Annotated[float, Meta(ge=0.0)]
Count = Annotated[int, Meta(ge=1)]
Name = Annotated[str, Meta(min_length=1)]

DEFAULT_MODEL = "sim-8b"
MAX_MODEL_LEN = 131_072
"""The longest context a server offers when its cache has room for it."""


class Timing(Struct, frozen=True, forbid_unknown_fields=True):
    """How long one engine step takes, in seconds.

    ``step_base + prefill_token * p + prefill_context * c + decode_sequence * d +
    decode_context * k`` with p prefill tokens, c the sum of each of them times its context
    length, d sequences that decode and k the context tokens they read.
    """

    step_base: Seconds
    prefill_token: Seconds
    decode_sequence: Seconds
    prefill_context: Seconds = 0.0
    decode_context: Seconds = 0.0


PRESETS: dict[str, Timing] = {
    "8b-h100": Timing(step_base=0.012, prefill_token=0.000_15, decode_sequence=0.000_04),
    "8b-l40s": Timing(step_base=0.028, prefill_token=0.000_6, decode_sequence=0.000_1),
    "70b-h100x8": Timing(step_base=0.022, prefill_token=0.000_5, decode_sequence=0.000_06),
    "70b-h100x4": Timing(
        step_base=0.014,
        prefill_token=0.000_07,
        decode_sequence=0.000_06,
        prefill_context=1.3e-9,
        decode_context=35e-9,
    ),
}
"""Known hardware. The first three follow the latencies published with llm-d-inference-sim
(batch 1, FP16: time to first token of 256 tokens, inter-token latency, prefill per token); the
last, which also knows the price of attention, is a roofline of a 70B model on four GPUs."""


class Mode(Enum):
    """Where the text of an answer comes from."""

    RANDOM = "random"
    """Pseudo-random words, the same for the same prompt and seed."""
    ECHO = "echo"
    """The prompt, or a chat's last message."""


class StreamFault(Enum):
    """What goes wrong in the middle of a stream."""

    RESET = "reset"
    """The connection is reset."""
    STALL = "stall"
    """Nothing more comes, and the connection stays open."""
    ERROR = "error"
    """An error event inside the stream, then its regular end."""


class ErrorKind(Enum):
    """Errors that can be injected, as real servers and the proxies before them give them."""

    RATE_LIMIT = "rate_limit"
    INVALID_API_KEY = "invalid_api_key"
    CONTEXT_LENGTH = "context_length"
    SERVER_ERROR = "server_error"
    INVALID_REQUEST = "invalid_request"
    MODEL_NOT_FOUND = "model_not_found"


class Faults(Struct, frozen=True, forbid_unknown_fields=True):
    """Which share of inference requests fails, and how.

    ``errors`` gives a probability a kind; ``reset_rate`` is the share of requests whose
    connection is reset before any answer; ``stream_fault_rate`` the share of streams that
    suffer ``stream_fault`` after ``stream_fault_after`` tokens. They are drawn in the order
    errors, reset, stream fault, and at most one strikes a request.
    """

    errors: dict[ErrorKind, Share] = {}
    reset_rate: Share = 0.0
    stream_fault_rate: Share = 0.0
    stream_fault: StreamFault = StreamFault.RESET
    stream_fault_after: Annotated[int, Meta(ge=0)] = 1


class Role(Enum):
    """Which part of requests a server takes."""

    BOTH = "both"
    PREFILL = "prefill"
    DECODE = "decode"


class Connector(Enum):
    """How servers hand KV over; the JSON is that of the real connectors."""

    NIXL = "nixl"
    EXAMPLE = "example"
    LMCACHE = "lmcache"
    MOONCAKE = "mooncake"
    MOONCAKE_OLD = "mooncake-old"
    P2PNCCL = "p2pnccl"
    OFFLOADING = "offloading"
    SGLANG = "sglang"


class Link(Struct, frozen=True, forbid_unknown_fields=True):
    """What moving KV takes: ``latency`` seconds and ``bytes_per_token`` over ``bandwidth``.

    131,072 bytes are a token of an 8B model with grouped heads in 16 bits; 25e9 bytes a second is
    a 200 Gb/s card.
    """

    bytes_per_token: Count = 131_072
    bandwidth: Annotated[float, Meta(gt=0.0)] = 25e9
    latency: Seconds = 0.002


class HandoverFaults(Struct, frozen=True, forbid_unknown_fields=True):
    """Which share of handovers goes wrong, and how; at most one strikes a request.

    A prefill may end as aborted (``abort_rate``), be answered without parameters
    (``no_params_rate``), with an engine id that nobody has (``wrong_params_rate``), without one of
    their fields (``torn_params_rate``) or ``late_seconds`` later (``late_rate``). A decode
    server may fail to fetch the KV (``transfer_rate``): it answers 500.
    """

    abort_rate: Share = 0.0
    no_params_rate: Share = 0.0
    wrong_params_rate: Share = 0.0
    torn_params_rate: Share = 0.0
    late_rate: Share = 0.0
    late_seconds: Seconds = 1.0
    transfer_rate: Share = 0.0


class EventEncoding(Enum):
    """The forms in which engines publish KV-cache events."""

    MAP = "map"
    """A map an event, as vLLM since mid 2026; replies to replay requests carry the topic."""
    ARRAY = "array"
    """An array an event, as vLLM before. Blocks in the CPU's memory have no tokens there."""
    SGLANG = "sglang"
    """SGLang's arrays: one block an event, signed hashes, no adapters and no salts."""


class HashForm(Enum):
    """How block hashes are published."""

    INT = "int"
    """As 64-bit numbers."""
    BYTES = "bytes"
    """As 32 bytes, of which the last eight are that number, big-endian."""


class KvEventSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """How a server publishes KV-cache events.

    ``port`` is the publisher's and the next one that of replays, 0: free ones. ``buffer_steps``
    is how many batches can be replayed, ``hwm`` how many may wait for a slow subscriber before
    it loses some. ``topic`` None is ``kv@HOST:PORT@MODEL`` with the server's own address.
    """

    encoding: EventEncoding = EventEncoding.MAP
    hashes: HashForm = HashForm.INT
    port: Annotated[int, Meta(ge=0, le=65_534)] = 0
    replay: bool = True
    buffer_steps: Count = 10_000
    hwm: Count = 100_000
    topic: str | None = None

    def __post_init__(self) -> None:
        if self.encoding is EventEncoding.SGLANG and self.hashes is HashForm.BYTES:
            raise ValueError("hashes can't be bytes with the encoding sglang: use int")


class EventFaults(Struct, frozen=True, forbid_unknown_fields=True):
    """What goes wrong between the cache and whoever listens to its events.

    Of the batches ``lose_rate`` is the share that is numbered and kept for replays but never
    sent, ``reorder_rate`` that of those that leave after their successor, ``duplicate_rate`` that
    of those sent twice. A ``silent`` publisher sends nothing and answers no replay. With
    ``late_clear`` a cleared cache is told with the next step's events, as vLLM does, instead of
    at once. Any new ``epoch`` is a restart: the cache is empty, hashes are others, and batches
    count from 0; it is refused while requests are in flight.
    """

    lose_rate: Share = 0.0
    reorder_rate: Share = 0.0
    duplicate_rate: Share = 0.0
    silent: bool = False
    late_clear: bool = False
    epoch: Annotated[int, Meta(ge=0)] = 0


class Behaviour(Struct, frozen=True, forbid_unknown_fields=True):
    """What may change while a server runs (``/admin/config``).

    ``time_scale`` multiplies the time of every step: 0.1 is ten times faster.
    ``time_factor_under_load`` is the factor on a step's time when all sequence slots are taken,
    growing linearly from 1 with one sequence. ``jitter`` is the standard deviation of a step's
    time as a share of it. ``cpu_load_rate`` is how many tokens a second come back from the
    CPU's memory: 200,000 is 25 GB/s with the 128 KiB that a token of an 8B model takes.
    """

    timing: Timing = PRESETS["8b-h100"]
    time_scale: Annotated[float, Meta(gt=0.0)] = 1.0
    time_factor_under_load: Annotated[float, Meta(ge=1.0)] = 1.0
    jitter: Annotated[float, Meta(ge=0.0, le=0.3)] = 0.0
    cpu_load_rate: Annotated[float, Meta(gt=0.0)] = 200_000.0
    faults: Faults = Faults()
    kv_events: EventFaults = EventFaults()
    link: Link = Link()
    handover: HandoverFaults = HandoverFaults()


class HandoverSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """How a server takes part in split requests.

    KV that nobody reads is pinned for ``lease`` seconds; a reader waits ``patience`` for KV that
    is not there yet. With ``counts_all_cached`` a decode server reports the whole fetched prompt
    as cached, as vLLM did before it took the prefill server's count over.
    """

    role: Role = Role.BOTH
    connector: Connector = Connector.NIXL
    lease: Annotated[float, Meta(gt=0.0)] = 30.0
    patience: Annotated[float, Meta(gt=0.0)] = 30.0
    counts_all_cached: bool = False


class ServerSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """One simulated server.

    ``cache_tokens`` is the KV cache's size and ``block_size`` that of a block, in tokens;
    ``cpu_cache_tokens`` is the size of a second tier for what is evicted (0: none).
    ``max_batched_tokens`` is the token budget of a step and ``max_num_seqs`` the most sequences
    that run at once. ``max_waiting`` (None: no limit, as in vLLM) bounds the waiting queue: what
    would exceed it gets 429. ``startup_seconds`` is how long the server answers 503 at first.
    ``kv_events`` None publishes no cache events; ``handover`` None knows
    nothing of split requests. ``name`` adds the headers x-inference-pod and
    x-inference-port to every response.
    """

    model: Name = DEFAULT_MODEL
    adapters: tuple[Name, ...] = ()
    name: Name | None = None
    seed: Annotated[int, Meta(ge=0)] = 0
    mode: Mode = Mode.RANDOM
    block_size: Annotated[int, Meta(ge=1, le=1024)] = 16
    cache_tokens: Count = 131_072
    cpu_cache_tokens: Annotated[int, Meta(ge=0)] = 0
    max_model_len: Count = MAX_MODEL_LEN
    max_num_seqs: Count = 256
    max_batched_tokens: Count = 2048
    max_loras: Count = 4
    max_waiting: Annotated[int, Meta(ge=0)] | None = None
    startup_seconds: Seconds = 0.0
    embedding_dimensions: Count = 384
    max_body_bytes: Count = 64 * 1024 * 1024
    kv_events: KvEventSettings | None = None
    handover: HandoverSettings | None = None
    behaviour: Behaviour = Behaviour()

    @property
    def cache_blocks(self) -> int:
        """How many blocks the cache has; at least one."""
        return max(self.cache_tokens // self.block_size, 1)

    @property
    def cpu_cache_blocks(self) -> int:
        """How many blocks the CPU's memory has."""
        return self.cpu_cache_tokens // self.block_size

    @property
    def context_length(self) -> int:
        """The longest prompt and answer together, in tokens: what the cache can hold at once."""
        return min(self.max_model_len, self.cache_blocks * self.block_size)

    @property
    def private_seed(self) -> int:
        """A seed of this server's own: equal servers answer alike, but don't stumble in step."""
        return xxh3_64_intdigest((self.name or "").encode(), seed=self.seed)
