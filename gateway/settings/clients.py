"""Towards clients and operators, and what is written about it all."""

from typing import Literal

from gateway.settings.types import (
    Bytes,
    CountOrZero,
    FieldName,
    FieldPattern,
    Method,
    Origin,
    Port,
    Section,
    Text,
)


class TlsSettings(Section, frozen=True):
    """TLS towards clients, from PEM files; ``client_ca`` makes client certificates required."""

    certificate: Text
    key: Text
    client_ca: Text | None = None
    min_version: Literal["1.2", "1.3"] = "1.2"


class ListenSettings(Section, frozen=True):
    """Where clients connect."""

    host: Text = "127.0.0.1"
    port: Port = 8080
    tls: TlsSettings | None = None


class CorsSettings(Section, frozen=True):
    """Which pages of other origins may call, and with what; no origins: none may."""

    origins: tuple[Origin, ...] = ()
    methods: tuple[Method, ...] = ("GET", "POST", "OPTIONS")
    headers: tuple[FieldPattern, ...] = (
        "authorization",
        "content-type",
        "x-request-id",
        "x-api-key",
        "anthropic-*",
        "openai-*",
        "x-stainless-*",
    )
    expose: tuple[FieldName, ...] = ("x-request-id", "x-inferway-endpoint")
    max_age: CountOrZero = 600
    credentials: bool = False


class AdminSettings(Section, frozen=True):
    """Where operators connect."""

    host: Text = "127.0.0.1"
    port: Port = 9090


class LogSettings(Section, frozen=True):
    """What is written about it all."""

    format: Literal["console", "json"] = "console"
    level: Literal["debug", "info", "warning", "error"] = "info"
    access: bool = True
    traffic: Text | None = None
    traffic_bytes: Bytes = 268_435_456
