"""Kubernetes' CEL functions that the library lacks, over the library's plain values.

A Quantity is ``{"@quantity": "<billionths>"}`` and a Semver ``{"@semver": "1.2.3"}``: equal when
Kubernetes' are, and without an order, as there. Each function raises ValueError or TypeError where
Kubernetes' would fail; `Doubt` is kept for what can't be told from here.
"""

import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from endpoints.allocation.quantity import NANO, parse_quantity
from endpoints.allocation.semver import Semver, compare, normalised_semver, parse_semver

CelValue = Any  # whatever an expression computes
QUANTITY = "@quantity"
SEMVER = "@semver"
_SAFE_PATTERN = re.compile(r"(?:\\[dws.\-]|[A-Za-z0-9 _.\-*+?|()^\[\],:/=]|\{\d+(?:,\d*)?\})*")


class Doubt:
    """Why the result of an evaluation must not be believed; empty: it may be."""

    def __init__(self) -> None:
        self.reason = ""

    def raised(self, reason: str) -> ValueError:
        """Remembers the reason, since errors may be absorbed; returns what to raise."""
        self.reason = reason
        return ValueError(reason)


def quantity_value(nanos: int) -> dict[str, str]:
    """A Quantity for an expression."""
    return {QUANTITY: str(nanos)}


def semver_value(version: Semver) -> dict[str, str]:
    """A Semver for an expression."""
    return {SEMVER: version.canonical}


def functions(doubt: Doubt) -> dict[str, Callable[..., Any]]:
    """All of them by name, to be called as functions and methods alike."""
    return {
        "quantity": lambda text: quantity_value(parse_quantity(_text(text))),
        "isQuantity": lambda text: _reads(parse_quantity, text),
        "isInteger": lambda one: _nanos(one) % NANO == 0 and abs(_nanos(one)) < NANO << 63,
        "asInteger": _as_integer,
        "asApproximateFloat": lambda one: _nanos(one) / NANO,
        "sign": lambda one: (_nanos(one) > 0) - (_nanos(one) < 0),
        "add": lambda one, other: quantity_value(_nanos(one) + _addend(other)),
        "sub": lambda one, other: quantity_value(_nanos(one) - _addend(other)),
        "semver": _semver,
        "isSemver": _is_semver,
        "major": lambda one: _version(one).major,
        "minor": lambda one: _version(one).minor,
        "patch": lambda one: _version(one).patch,
        "compareTo": _compare,
        "isLessThan": lambda one, other: _compare(one, other) < 0,
        "isGreaterThan": lambda one, other: _compare(one, other) > 0,
        "includes": lambda one, other: other in one if isinstance(one, list) else one == other,
        "lowerAscii": lambda text: _ascii_case(_text(text), str.lower),
        "upperAscii": lambda text: _ascii_case(_text(text), str.upper),
        "charAt": _char_at,
        "indexOf": _index_of,
        "lastIndexOf": _last_index_of,
        "join": lambda texts, by="": _text(by).join(map(_text, texts)),
        "replace": _replace,
        "split": _split,
        "substring": _substring,
        "trim": lambda text: _text(text).strip(),
        "find": lambda text, pattern: _find(doubt, text, pattern),
        "findAll": lambda text, pattern, most=-1: _find_all(doubt, text, pattern, most),
        "sum": lambda values: sum(values[1:], values[0]) if values else 0,
        "min": min,
        "max": max,
        "isSorted": lambda values: all(a <= b for a, b in pairwise(values)),
        "sets_contains": lambda whole, part: all(one in whole for one in part),
        "sets_equivalent": lambda a, b: all(x in b for x in a) and all(x in a for x in b),
        "sets_intersects": lambda a, b: any(one in b for one in a),
    }


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _reads(parse: Callable[[str], object], value: object) -> bool:
    try:
        parse(_text(value))
    except ValueError:
        return False
    return True


def _nanos(value: CelValue) -> int:
    if not isinstance(value, dict) or QUANTITY not in value:
        raise TypeError(f"{value!r} is no Quantity")
    return int(value[QUANTITY])


def _addend(value: CelValue) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value * NANO
    return _nanos(value)


def _as_integer(value: CelValue) -> int:
    nanos = _nanos(value)
    if nanos % NANO or abs(nanos) >= NANO << 63:
        raise ValueError("the Quantity is no integer")
    return nanos // NANO


def _semver(text: object, normalise: object = False) -> dict[str, str]:
    return semver_value((normalised_semver if normalise is True else parse_semver)(_text(text)))


def _is_semver(text: object, normalise: object = False) -> bool:
    return _reads(normalised_semver if normalise is True else parse_semver, text)


def _version(value: CelValue) -> Semver:
    if not isinstance(value, dict) or SEMVER not in value:
        raise TypeError(f"{value!r} is no Semver")
    return parse_semver(value[SEMVER])


def _compare(one: CelValue, other: CelValue) -> int:
    if isinstance(one, dict) and QUANTITY in one:
        a, b = _nanos(one), _nanos(other)
        return (a > b) - (a < b)
    return compare(_version(one), _version(other))


def _ascii_case(text: str, change: Callable[[str], str]) -> str:
    return "".join(change(one) if one.isascii() else one for one in text)


def _char_at(text: object, index: int) -> str:
    if not 0 <= index <= len(_text(text)):
        raise ValueError(f"index {index} is out of range")
    return _text(text)[index : index + 1]


def _index_of(where: CelValue, what: CelValue, start: int = 0) -> int:
    if isinstance(where, list):
        return where.index(what) if what in where else -1
    if not 0 <= start <= len(_text(where)):
        raise ValueError(f"index {start} is out of range")
    return _text(where).find(_text(what), start)


def _last_index_of(where: CelValue, what: CelValue, start: int | None = None) -> int:
    if isinstance(where, list):
        return len(where) - 1 - where[::-1].index(what) if what in where else -1
    if start is None:
        return _text(where).rfind(_text(what))
    if not 0 <= start <= len(_text(where)):
        raise ValueError(f"index {start} is out of range")
    return _text(where).rfind(_text(what), 0, start + len(_text(what)))


def _replace(text: object, old: object, new: object, most: int = -1) -> str:
    return _text(text).replace(_text(old), _text(new), most)


def _split(text: object, by: object, most: int = -1) -> list[str]:
    if most == 0:
        return []
    if not by:
        letters = list(_text(text))
        return letters if most < 0 else [*letters[: most - 1], "".join(letters[most - 1 :])]
    return _text(text).split(_text(by), most - 1 if most > 0 else -1)


def _substring(text: object, start: int, end: int | None = None) -> str:
    size = len(_text(text))
    end = size if end is None else end
    if not 0 <= start <= end <= size:
        raise ValueError(f"range [{start}, {end}] is out of range")
    return _text(text)[start:end]


def _pattern(doubt: Doubt, text: object, pattern: object) -> re.Pattern[str]:
    """Only what means the same in RE2 and here."""
    if not _text(text).isascii() or not _SAFE_PATTERN.fullmatch(_text(pattern)):
        raise doubt.raised(f"find() with the pattern {pattern!r}")
    if "(?" in _text(pattern) or re.search(r"[*+?}][*+]", _text(pattern)):
        raise doubt.raised(f"find() with the pattern {pattern!r}")
    return re.compile(_text(pattern), re.ASCII)


def _find(doubt: Doubt, text: object, pattern: object) -> str:
    found = _pattern(doubt, text, pattern).search(_text(text))
    return found.group() if found else ""


def _find_all(doubt: Doubt, text: object, pattern: object, most: int) -> list[str]:
    found = [one.group() for one in _pattern(doubt, text, pattern).finditer(_text(text))]
    return found if most < 0 else found[:most]
