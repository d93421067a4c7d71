"""Checks plain data (from YAML) against msgspec Structs and finds everything that is wrong.

`msgspec.convert` stops at the first error; whoever mends a file wants to see all of them, with
hints. Constraints stay where they belong, in the fields' types: what a `msgspec.Meta` says in
its ``description`` is what the messages call right.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Annotated, Literal, Union, get_args, get_origin

import msgspec

_LONGEST_VALUE = 80
_PLAIN_TYPES: Mapping[object, str] = {
    bool: "true or false",
    float: "a number",
    int: "a whole number",
    str: "text",
    NoneType: "null",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: where (``listen.port``; empty: all of it), and what."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


def problems_in(data: object, struct: type[msgspec.Struct], path: str = "") -> Iterator[Problem]:
    """Everything that keeps ``data`` from being a ``struct``; ``path`` is where it stands."""
    if not isinstance(data, Mapping):
        yield Problem(path, f"{shown(data)} is not right here; expected a mapping of settings")
        return
    fields = {field.encode_name: field for field in msgspec.structs.fields(struct)}
    for key, value in data.items():
        field = fields.get(key)
        where = f"{path}.{key}" if path else str(key)
        if field is None:
            yield Problem(where, f"unknown key (with {shown(value)}); {_hint(key, fields)}")
        else:
            yield from _problems_of(value, field.type, where)
    for name, field in fields.items():
        if field.required and name not in data:
            yield Problem(f"{path}.{name}" if path else name, "is missing and has no default")


def shown(value: object) -> str:
    """A value as messages show it: in YAML's words, and not too long."""
    if value is None or isinstance(value, bool):
        return str(msgspec.json.encode(value), "ascii")
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 3] + "..."


def _problems_of(value: object, kind: object, path: str) -> Iterator[Problem]:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        yield from problems_in(value, kind, path)
        return
    optional = _optional_struct(kind)
    if optional is not None and isinstance(value, Mapping):
        yield from problems_in(value, optional, path)
        return
    item = _struct_of_list(kind)
    if item is not None and isinstance(value, list):
        for index, element in enumerate(value):
            yield from problems_in(element, item, f"{path}[{index}]")
        return
    try:
        msgspec.convert(value, type=kind)
    except msgspec.ValidationError:
        yield Problem(path, f"{shown(value)} is not right here; expected {expected(kind)}")


def _optional_struct(kind: object) -> type[msgspec.Struct] | None:
    """The Struct of a ``Struct | None``; None for any other type."""
    if get_origin(kind) not in (Union, UnionType):
        return None
    structs = [one for one in get_args(kind) if one is not NoneType]
    only = structs[0] if len(structs) == 1 else None
    return only if isinstance(only, type) and issubclass(only, msgspec.Struct) else None


def _struct_of_list(kind: object) -> type[msgspec.Struct] | None:
    """The Struct of a ``tuple[Struct, ...]``; None for any other type."""
    if get_origin(kind) is not tuple:
        return None
    item = get_args(kind)[0]
    return item if isinstance(item, type) and issubclass(item, msgspec.Struct) else None


def expected(kind: object) -> str:
    """What a value of a type is, in words for people."""
    arguments = get_args(kind)
    origin = get_origin(kind)
    if origin is Annotated:
        described = [meta.description for meta in arguments[1:] if isinstance(meta, msgspec.Meta)]
        return next(filter(None, described), None) or expected(arguments[0])
    if origin is Literal:
        return f"one of {', '.join(map(_in_yaml, arguments))}"
    if origin in (Union, UnionType):
        return " or ".join(map(expected, arguments))
    if origin is tuple:
        return f"a list of {expected(arguments[0])}"
    if origin is dict:
        return f"a mapping of {expected(arguments[0])} to {expected(arguments[1])}"
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return "a mapping of settings"
    return _PLAIN_TYPES[kind]


def _in_yaml(word: str) -> str:
    """A text as it is written in YAML: with quotes where it would be a number without."""
    return f'"{word}"' if word[:1].isdigit() else word


def _hint(key: object, known: Iterable[str]) -> str:
    close = get_close_matches(str(key), known, n=1)
    return f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
