"""What the demo's servers imitate: a 70B model on four 80 GB GPUs each."""

MODEL = "sim-70b"
PRESET = "70b-h100x4"
CACHE_TOKENS = 460_000
KV_BYTES_PER_TOKEN = 327_680
"""2 x 80 layers x 8 KV heads x 128 x 2 bytes."""
BANDWIDTH = 50e9
"""Bytes a second from server to server: a 400 Gb/s card."""


def server_arguments(servers: int, time_scale: float) -> tuple[str, ...]:
    """What `inferway sim` is told of them."""
    return (
        *("--servers", str(servers), "--model", MODEL, "--preset", PRESET),
        *("--cache-tokens", str(CACHE_TOKENS), "--time-scale", str(time_scale)),
        *("--max-batched-tokens", "8192"),
    )
