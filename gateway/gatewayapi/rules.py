"""HTTPRoute rules as our own rules; backends are resolved by whoever asks."""

import re
from collections.abc import Callable
from typing import Final, TypeAlias

from gateway.gatewayapi.snapshot import Object
from gateway.routes.rules import (
    NO_EDIT,
    Backend,
    HeaderEdit,
    PathKind,
    PathMatch,
    PathRewrite,
    Redirect,
    RequestMatch,
    Rewrite,
    Rule,
    Target,
    ValueMatch,
)

Resolve: TypeAlias = Callable[[Object], Target]
"""From a backendRef to its target, a broken one if need be."""

_DURATION: Final = re.compile(r"(?:[0-9]{1,5}(?:h|ms|m|s)){1,4}")
_PART: Final = re.compile(r"([0-9]+)(h|ms|m|s)")
_UNITS: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_FOREVER: Final = 86_400.0  # what a timeout of zero, none at all, becomes
_UNSUPPORTED_FIELDS: Final = ("sessionPersistence", "retry")
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


_NO_MATCH: Final[Object] = {}


class UnsupportedError(ValueError):
    """A rule says something that is not supported here; the message says what."""


def seconds(duration: str) -> float:
    """A duration of the Gateway API (GEP-2257), such as ``1m30s``; 0 is a day."""
    if not _DURATION.fullmatch(duration):
        raise UnsupportedError(f"{duration!r} is no duration")
    found = sum(int(number) * _UNITS[unit] for number, unit in _PART.findall(duration))
    return min(found, _FOREVER) or _FOREVER


def rule_of(spec: Object, resolve: Resolve) -> Rule:
    """One rule. Raises `UnsupportedError`."""
    for name in _UNSUPPORTED_FIELDS:
        if spec.get(name) is not None:
            raise UnsupportedError(f"{name} is not supported")
    filters = _Filters(spec.get("filters") or (), backend=False)
    if filters.redirect is not None and (filters.rewrite is not None or spec.get("backendRefs")):
        raise UnsupportedError("a redirect stands alone: no backendRefs and no URLRewrite with it")
    timeouts = spec.get("timeouts") or {}
    request, attempt = timeouts.get("request"), timeouts.get("backendRequest")
    return Rule(
        matches=tuple(match_of(one) for one in spec.get("matches") or [_NO_MATCH]),
        backends=tuple(_backend(one, resolve) for one in spec.get("backendRefs") or ()),
        request=filters.request,
        response=filters.response,
        rewrite=filters.rewrite,
        redirect=filters.redirect,
        request_timeout=None if request is None else seconds(request),
        backend_timeout=None if attempt is None else seconds(attempt),
    )


def match_of(spec: Object) -> RequestMatch:
    """One match. Raises `UnsupportedError`."""
    path = spec.get("path") or {}
    value = path.get("value") or "/"
    try:
        kind = PathKind(path.get("type") or "PathPrefix")
    except ValueError:
        raise UnsupportedError(f"path type {path['type']!r} is not supported") from None
    if kind is PathKind.REGEX:
        _compiled(value)
    elif not value.startswith("/"):
        raise UnsupportedError(f"the path {value!r} does not begin with /")
    return RequestMatch(
        path=PathMatch(kind, value),
        headers=tuple(_value(one, lower=True) for one in spec.get("headers") or ()),
        query=tuple(_value(one, lower=False) for one in spec.get("queryParams") or ()),
        method=spec.get("method"),
    )


def _value(spec: Object, *, lower: bool) -> ValueMatch:
    kind = spec.get("type") or "Exact"
    if kind not in {"Exact", "RegularExpression"}:
        raise UnsupportedError(f"match type {kind!r} is not supported")
    regex = kind == "RegularExpression"
    if regex:
        _compiled(spec["value"])
    name = spec["name"].lower() if lower else spec["name"]
    return ValueMatch(name, spec["value"], regex)


def _compiled(pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise UnsupportedError(f"the pattern {pattern!r} is not one: {error}") from error


def _backend(spec: Object, resolve: Resolve) -> Backend:
    filters = _Filters(spec.get("filters") or (), backend=True)
    weight = spec.get("weight")
    return Backend(
        resolve(spec), 1 if weight is None else int(weight), filters.request, filters.response
    )


class _Filters:
    """What a list of filters asks for. Each type comes once."""

    def __init__(self, filters: list[Object] | tuple[Object, ...], *, backend: bool) -> None:
        self.request = self.response = NO_EDIT
        self.rewrite: Rewrite | None = None
        self.redirect: Redirect | None = None
        for one in filters:
            kind = one.get("type")
            if kind == "RequestHeaderModifier":
                self.request = _edit(one["requestHeaderModifier"])
            elif kind == "ResponseHeaderModifier":
                self.response = _edit(one["responseHeaderModifier"])
            elif kind == "URLRewrite" and not backend:
                self.rewrite = _rewrite(one["urlRewrite"])
            elif kind == "RequestRedirect" and not backend:
                self.redirect = _redirect(one["requestRedirect"])
            else:
                where = "in backendRefs" if backend else "in rules"
                raise UnsupportedError(f"the filter {kind} is not supported {where}")


def _edit(spec: Object) -> HeaderEdit:
    return HeaderEdit(
        set=tuple((one["name"].lower(), one["value"]) for one in spec.get("set") or ()),
        add=tuple((one["name"].lower(), one["value"]) for one in spec.get("add") or ()),
        remove=tuple(name.lower() for name in spec.get("remove") or ()),
    )


def _path(spec: Object | None) -> PathRewrite | None:
    if spec is None:
        return None
    if spec.get("type") == "ReplaceFullPath":
        return PathRewrite(spec.get("replaceFullPath") or "/")
    if spec.get("type") == "ReplacePrefixMatch":
        return PathRewrite(spec.get("replacePrefixMatch") or "", prefix=True)
    raise UnsupportedError(f"the path modifier {spec.get('type')!r} is not supported")


def _rewrite(spec: Object) -> Rewrite:
    return Rewrite(spec.get("hostname"), _path(spec.get("path")))


def _redirect(spec: Object) -> Redirect:
    status = int(spec.get("statusCode") or 302)
    if status not in _REDIRECTS:
        raise UnsupportedError(f"a redirect with status {status} is not supported")
    return Redirect(
        scheme=spec.get("scheme"),
        hostname=spec.get("hostname"),
        path=_path(spec.get("path")),
        port=spec.get("port"),
        status=status,
    )
