"""The sidecar's options: llm-d's flags, read as Go reads them (``--secure-proxy=false``)."""

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_network

from endpoints.engines.transfer import dialect_named
from endpoints.engines.transfer.dialect import Dialect
from endpoints.engines.transfer.mooncake import PORT_LABEL as BOOTSTRAP_LABEL
from gateway.proxy.pairing import Network

_STAGES = ("prefiller", "decoder", "encoder")
_TRUE = frozenset({"true", "t", "1"})
_FALSE = frozenset({"false", "f", "0"})


class OptionError(ValueError):
    """An option that can't be met; the message names it, and what to do."""


@dataclass(frozen=True, slots=True)
class SidecarOptions:
    """What a sidecar is told; ports of data-parallel ranks follow the first ones."""

    host: str
    port: int
    engine_port: int
    dialect: Dialect
    ranks: int
    secure: bool
    certificates: str | None
    tls_stages: frozenset[str]
    unverified_stages: frozenset[str]
    sampling: bool
    prefill_retries: int
    prefill_timeout: float
    max_idle: int
    labels: tuple[tuple[str, str], ...]
    allowed: tuple[Network, ...] | None
    access_log: bool


def parse(
    arguments: Sequence[str], environment: os._Environ[str] | dict[str, str]
) -> SidecarOptions:
    """Read the options. Raises `OptionError`; SystemExit for ``--help`` and unknown ones."""
    found = _parser(environment).parse_args(list(arguments))
    if found.ec_connector:
        raise OptionError("--ec-connector: encoding apart is not supported; leave it out")
    if found.decode_chunk_size:
        raise OptionError("--decode-chunk-size: only 0 is supported")
    allowed = _networks(found.allow_prefiller)
    if found.enable_ssrf_protection and allowed is None:
        raise OptionError(
            "--enable-ssrf-protection: pools are not watched; name the networks of the prefill "
            "servers with --allow-prefiller instead, such as 10.0.0.0/8"
        )
    try:
        dialect = dialect_named(found.connector or found.kv_connector)
    except ValueError as error:
        raise OptionError(f"--kv-connector: {error}") from None
    tls, unverified = (
        _stages(found.enable_tls, "--enable-tls"),
        _stages(found.tls_insecure_skip_verify, "--tls-insecure-skip-verify"),
    )
    served = tls - {"encoder"}
    if unverified & served not in (frozenset(), served):
        raise OptionError(
            "--tls-insecure-skip-verify: name both prefiller and decoder, or neither: they share "
            "their trust"
        )
    bootstrap = found.mooncake_bootstrap_port
    if dialect.name == "sglang":
        bootstrap = environment.get("SGLANG_BOOTSTRAP_PORT", bootstrap)
    return SidecarOptions(
        host=found.host,
        port=found.port,
        engine_port=found.vllm_port,
        dialect=dialect,
        ranks=found.data_parallel_size,
        secure=found.secure_proxy,
        certificates=found.cert_path or None,
        tls_stages=tls,
        unverified_stages=unverified,
        sampling=found.enable_prefiller_sampling,
        prefill_retries=found.prefill_max_retries,
        prefill_timeout=found.prefill_timeout,
        max_idle=found.max_idle_conns_per_host,
        labels=(("kv-connector", dialect.name), (BOOTSTRAP_LABEL, str(bootstrap))),
        allowed=allowed,
        access_log=found.access_log,
    )


def _parser(environment: os._Environ[str] | dict[str, str]) -> argparse.ArgumentParser:
    sampling = environment.get("ENABLE_PREFILLER_SAMPLING", "false").lower() in _TRUE
    parser = argparse.ArgumentParser(
        prog="inferway sidecar",
        description="Stand before a decode engine as llm-d's routing sidecar does: requests that "
        "name a prefill server (x-prefiller-host-port) are computed there first.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--host", default="0.0.0.0", help="address to listen on")
    add("--port", type=_port, default=8000, help="port to listen on")
    add("--vllm-port", type=_port, default=8001, help="port of the decode engine on this host")
    add("--kv-connector", default="nixlv2", help="how the engines hand KV over")
    add("--connector", default="", help="deprecated name of --kv-connector")
    add("--ec-connector", default="", help="not supported")
    add("--data-parallel-size", type=_count, default=1, help="ranks, each on ports of its own")
    _flag(parser, "--secure-proxy", True, "listen with TLS")
    add("--cert-path", default="", help="folder with tls.crt and tls.key; none: self-signed")
    add("--enable-tls", action="append", default=[], help="prefiller, decoder: speak TLS to it")
    add("--tls-insecure-skip-verify", action="append", default=[], help="and trust anybody")
    _flag(parser, "--enable-ssrf-protection", False, "only networks of --allow-prefiller")
    add("--allow-prefiller", action="append", default=[], help="a network of prefill servers")
    _flag(parser, "--enable-prefiller-sampling", sampling, "draw one of several named ones")
    add("--prefill-max-retries", type=int, default=0, help="further prefill servers to try")
    add("--prefill-retry-backoff", default="200ms", help="accepted, of no effect")
    add("--prefill-timeout", type=float, default=600.0, help="seconds to wait for a prefill")
    add("--mooncake-bootstrap-port", type=_port, default=8998, help="of prefill servers")
    add("--max-idle-conns-per-host", type=_count, default=1024, help="kept open")
    add("--decode-chunk-size", type=int, default=0, help="only 0 is supported")
    _flag(parser, "--access-log", False, "write a line a request")
    for go in ("--zap-log-level", "--zap-encoder", "--v", "--inference-pool", "--pool-group"):
        add(go, default="", help=argparse.SUPPRESS)  # of llm-d's manifests, of no effect here
    return parser


def _flag(parser: argparse.ArgumentParser, name: str, default: bool, text: str) -> None:
    parser.add_argument(name, type=_bool, nargs="?", const=True, default=default, help=text)


def _bool(text: str) -> bool:
    lowered = text.lower()
    if lowered in _TRUE or lowered in _FALSE:
        return lowered in _TRUE
    raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")


def _port(text: str) -> int:
    if not (text.isdigit() and int(text) <= 65_535):
        raise argparse.ArgumentTypeError(f"{text!r} is no port")
    return int(text)


def _count(text: str) -> int:
    if not (text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _stages(said: Sequence[str], option: str) -> frozenset[str]:
    stages = frozenset(stage.strip() for one in said for stage in one.split(",") if stage.strip())
    for stage in stages:
        if stage not in _STAGES:
            raise OptionError(f"{option}: {stage!r} is none of {', '.join(_STAGES)}")
    return stages


def _networks(said: Sequence[str]) -> tuple[Network, ...] | None:
    if not said:
        return None
    try:
        return tuple(ip_network(one.strip()) for text in said for one in text.split(","))
    except ValueError as error:
        raise OptionError(f"--allow-prefiller: {error}") from None
