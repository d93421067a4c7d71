"""Limits and time-outs of whoever carries requests."""

from typing import Annotated, Literal

import msgspec

from gateway.settings.clients import TlsSettings
from gateway.settings.types import (
    Bytes,
    Count,
    CountOrZero,
    ErrorStatus,
    Fraction,
    Port,
    Seconds,
    Section,
    Text,
)


class ProxySettings(Section, frozen=True):
    """Limits and time-outs of the data plane."""

    max_body_bytes: Bytes = 67_108_864
    max_json_depth: Count | None = None
    max_header_bytes: Bytes = 65_536
    max_headers: Count = 100
    max_connections: Count = 20_000
    max_concurrent_requests: Count = 20_000
    connect_timeout: Seconds = 2.0
    first_byte_timeout: Seconds = 600.0
    idle_timeout: Seconds = 300.0
    request_timeout: Seconds = 3600.0
    keepalive_timeout: Seconds = 75.0
    header_timeout: Seconds = 20.0
    body_timeout: Seconds = 60.0
    drain_seconds: Seconds = 30.0
    max_idle_upstream: CountOrZero = 256
    upstream_idle_timeout: Seconds = 4.0
    upstream_ca_file: Text | None = None
    upstream_verify: bool = True
    retry_statuses: tuple[ErrorStatus, ...] = (429, 502, 503, 504)
    prefill_patience: Annotated[
        float, msgspec.Meta(ge=1, le=1000, description="a factor, from 1 to 1000")
    ] = 4.0
    prefill_grace: Seconds = 1.0
    prefill_retries: CountOrZero = 1
    internal_fields: Literal["strip", "refuse"] = "strip"
    forwarded: Literal["append", "replace", "off"] = "append"


class ExtProcSettings(Section, frozen=True):
    """The external processor that Envoy asks; see `gateway.extproc`."""

    host: Text = "127.0.0.1"
    port: Port = 9002
    alone: bool = False
    tls: TlsSettings | None = None
    self_signed: bool = False
    pool: Text = "default"
    picker_config: Text | None = None
    fallbacks: CountOrZero = 3
    learn: Fraction = 0.0
    rewrites: dict[Text, dict[Text, Count]] = {}
    test_selection: bool = False
    max_body_bytes: Bytes = 67_108_864
    max_held_bytes: Bytes = 1_073_741_824
    max_message_bytes: Bytes = 68_157_440
    max_header_bytes: Bytes = 65_536
    max_connections: Count = 1_000
    max_streams: Count = 10_000
    max_concurrent_requests: Count = 20_000
    stall_timeout: Seconds = 30.0
    drain_seconds: Seconds = 30.0
