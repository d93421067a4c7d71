"""Endpoints that are named by their URLs."""

import ipaddress
import re
from collections.abc import Iterable
from urllib.parse import SplitResult, urlsplit

from endpoints.engines import engine_named
from routing.fleet import Endpoint

_HOST_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_NAME = re.compile(r"[!-~]+")
_DEFAULT_PORTS = {"http": 80, "https": 443}


def endpoint_from_url(
    url: str,
    *,
    name: str | None = None,
    engine: str | None = None,
    models: Iterable[str] | None = None,
    cache_tokens: int | None = None,
    labels: Iterable[tuple[str, str]] = (),
) -> Endpoint:
    """An endpoint from ``http(s)://host[:port]``, everything checked.

    The URL is normalised: lower case, port always written, no trailing slash. The name
    defaults to ``host:port``. ValueError says what is wrong and how to mend it.
    """
    normal, authority = _normalised(url)
    name = authority if name is None else name
    if not _NAME.fullmatch(name):
        raise ValueError(f"name {name!r}: use visible ASCII characters without spaces")
    if engine is not None:
        engine_named(engine)
    served = _model_names(models) if models is not None else None
    if cache_tokens is not None and cache_tokens < 1:
        raise ValueError(f"cache_tokens is {cache_tokens}; give a positive number, or leave it out")
    return Endpoint(name, normal, engine, served, cache_tokens, tuple(labels))


def _model_names(models: Iterable[str]) -> tuple[str, ...]:
    if isinstance(models, str):
        raise ValueError(f"models is the text {models!r}; give a list of names")
    names = tuple(models)
    if not names or not all(names):
        raise ValueError("models holds no name; leave it out to ask the endpoint what it serves")
    if len(set(names)) < len(names):
        raise ValueError(f"models names one model twice: {', '.join(names)}")
    return names


def _normalised(url: str) -> tuple[str, str]:
    """The URL in its one form, and its ``host:port``."""
    if not _NAME.fullmatch(url):
        raise ValueError(f"URL {url!r}: only visible ASCII characters without spaces are allowed")
    if "@" in url:  # before any message that would show the password
        raise ValueError(
            f"the URL of {url.rsplit('@', maxsplit=1)[-1]!r} holds a user or password; leave it off"
        )
    if "://" not in url:
        raise ValueError(f"URL {url!r} has no scheme; write http://{url}")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"URL {url!r}: {error}") from error
    if parts.scheme not in _DEFAULT_PORTS:
        raise ValueError(f"URL {url!r}: the scheme is {parts.scheme!r}; use http or https")
    _refuse_extras(url, parts)
    if port == 0:
        raise ValueError(f"URL {url!r}: port 0 can't be connected to")
    host = _host(url, parts)
    authority = f"{host}:{port or _DEFAULT_PORTS[parts.scheme]}"
    return f"{parts.scheme}://{authority}", authority


def _refuse_extras(url: str, parts: SplitResult) -> None:
    if "?" in url or "#" in url:
        raise ValueError(f"URL {url!r}: leave off the query and the fragment")
    path = parts.path.rstrip("/")
    if path:
        raise ValueError(
            f"URL {url!r}: leave off the path {path!r}; the gateway adds the paths of the API"
        )


def _host(url: str, parts: SplitResult) -> str:
    host = (parts.hostname or "").lower()
    if not host:
        raise ValueError(f"URL {url!r} names no host")
    if "[" in parts.netloc:
        try:
            address = ipaddress.IPv6Address(host)
        except ValueError as error:
            raise ValueError(f"URL {url!r}: {host!r} is no IPv6 address") from error
        if address.scope_id is not None:
            raise ValueError(f"URL {url!r}: an address with a zone can't be used")
        return f"[{address.compressed}]"
    if re.fullmatch(r"[0-9.]+", host):
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError as error:
            raise ValueError(f"URL {url!r}: {host!r} is no IPv4 address") from error
    labels = host.removesuffix(".").split(".")
    if len(host) > 253 or not all(_HOST_LABEL.fullmatch(label) for label in labels):
        raise ValueError(f"URL {url!r}: {host!r} is no host name (IPv6 needs [brackets])")
    return host
