"""Kubernetes label selectors: ``pool=chat,role in (prefill, decode),!spare``. Pure.

Source: Kubernetes concepts, "Labels and Selectors".
"""

import re
from collections.abc import Callable, Mapping
from typing import TypeAlias

Selector: TypeAlias = Callable[[Mapping[str, str]], bool]

_KEY = r"[A-Za-z0-9_./-]+"
_VALUE = r"[A-Za-z0-9_./-]*"
_SET = re.compile(rf"\s*({_KEY})\s+(in|notin)\s+\(([^()]*)\)\s*")
_EQUAL = re.compile(rf"\s*({_KEY})\s*(==|=|!=)\s*({_VALUE})\s*")
_EXISTS = re.compile(rf"\s*(!?)\s*({_KEY})\s*")


class SelectorError(ValueError):
    """A selector that can't be read; the message has its text."""


def selector(text: str) -> Selector:
    """Whether labels are selected. SelectorError says what can't be read."""
    parts: list[Selector] = []
    at = 0
    while at < len(text):
        part, at = _next(text, at)
        parts.append(part)
        if at < len(text):
            if text[at] != ",":
                raise SelectorError(f"labelSelector {text!r}: can't read {text[at:]!r}")
            at += 1
    return lambda labels: all(part(labels) for part in parts)


def _next(text: str, at: int) -> tuple[Selector, int]:
    if match := _SET.match(text, at):
        key, word, listed = match.groups()
        values = {value.strip() for value in listed.split(",")}
        if word == "in":
            return (lambda labels: labels.get(key) in values), match.end()
        return (lambda labels: labels.get(key) not in values), match.end()
    if match := _EQUAL.match(text, at):
        name, sign, value = match.groups()
        if sign == "!=":
            return (lambda labels: labels.get(name) != value), match.end()
        return (lambda labels: labels.get(name) == value), match.end()
    if match := _EXISTS.match(text, at):
        absent, there = match.groups()
        return (lambda labels: (there in labels) is not bool(absent)), match.end()
    raise SelectorError(f"labelSelector {text!r}: can't read {text[at:]!r}")
