"""What Kubernetes' CEL has and the library lacks, written in words that it knows.

``cel.bind(v, expr, body)`` becomes ``body`` with ``(expr)`` for each ``v``: both are evaluated
when used, so errors are absorbed alike. Optional selection ``device.attributes["d"].?x.orValue(y)``
becomes a conditional on presence. ``sets.f(...)`` becomes a plain function. What can't be written
so raises `UnreadableError`.
"""

from collections.abc import Sequence
from typing import NamedTuple

from endpoints.allocation.selectors.tokens import (
    Token,
    UnreadableError,
    arguments,
    closing,
    literal,
)

MACROS = frozenset({"all", "exists", "exists_one", "existsOne", "map", "filter"})
DRIVER = ""
"""Stands for the device's own driver where a domain is named."""
EVERYTHING = "*"
_MOST_TOKENS = 20_000
_MAPS = frozenset({"attributes", "capacity"})
_DOT, _OPEN, _CLOSE = Token("sign", "."), Token("sign", "("), Token("sign", ")")
_INDEX, _INDEX_END = Token("sign", "["), Token("sign", "]")


class Reference(NamedTuple):
    """What of a device an expression looks at: ``kind`` is attributes or capacity.

    ``id`` may be EVERYTHING of the domain, ``domain`` may be EVERYTHING (which domains there are).
    """

    kind: str
    domain: str
    id: str


class Rewritten(NamedTuple):
    """An expression for the library, the domains that it indexes, and all that it looks at."""

    tokens: list[Token]
    domains: dict[str, set[str]]
    references: frozenset[Reference]


def rewrite(tokens: list[Token]) -> Rewritten:
    """All rewriting, in order. Raises UnreadableError."""
    return _referenced(_sets(_optionals(_binds(tokens))))


def macro_variables(tokens: Sequence[Token]) -> set[str]:
    """The names that macros bind."""
    found = set()
    for index in range(2, len(tokens)):
        before, name, opened = tokens[index - 2], tokens[index - 1], tokens[index]
        if before == _DOT and name.text in MACROS and opened == _OPEN and index + 1 < len(tokens):
            found.add(tokens[index + 1].text)
    return found


def _is(tokens: Sequence[Token], index: int, *texts: str) -> bool:
    return [token.text for token in tokens[index : index + len(texts)]] == list(texts)


def _binds(tokens: list[Token]) -> list[Token]:
    # From the last to the first: what is inside of a bind comes after its start.
    for index in range(len(tokens) - 1, -1, -1):
        if not _is(tokens, index, "cel", ".", "bind", "("):
            continue
        args, end = arguments(tokens, index + 3)
        if len(args) != 3 or len(args[0]) != 1 or args[0][0].kind != "name":
            raise UnreadableError("cel.bind takes a name, a value and an expression")
        name, value, body = args[0][0].text, args[1], args[2]
        bound = macro_variables(body)
        if name in bound or bound & {one.text for one in value if one.kind == "name"}:
            raise UnreadableError(f"cel.bind of {name!r} meets a macro with the same name")
        made = [_OPEN]
        for place, token in enumerate(body):
            field = place > 0 and body[place - 1].text in {".", ".?"}
            if token == Token("name", name) and not field:
                made += [_OPEN, *value, _CLOSE]
            else:
                made.append(token)
        tokens = [*tokens[:index], *made, _CLOSE, *tokens[end + 1 :]]
        if len(tokens) > _MOST_TOKENS:
            raise UnreadableError("cel.bind makes it too long")
    return _unwrapped(tokens)


def _unwrapped(tokens: list[Token]) -> list[Token]:
    """Without brackets around a plain path on the device, so that ``(device.x).y`` reads as one."""
    index = 0
    while index < len(tokens):
        if tokens[index] == _OPEN and (index == 0 or tokens[index - 1].kind != "name"):
            end = closing(tokens, index)
            inside = tokens[index + 1 : end]
            if _is_path(inside):
                tokens = [*tokens[:index], *inside, *tokens[end + 1 :]]
        index += 1
    return tokens


def _is_path(tokens: list[Token]) -> bool:
    """Whether it is ``device`` with fields and literal indexes, and nothing else."""
    if not tokens or tokens[0] != Token("name", "device"):
        return False
    index = 1
    while index < len(tokens):
        if tokens[index] == _DOT and index + 1 < len(tokens) and tokens[index + 1].kind == "name":
            index += 2
        elif (
            tokens[index] == _INDEX
            and index + 2 < len(tokens)
            and tokens[index + 1].kind == "text"
            and tokens[index + 2] == _INDEX_END
        ):
            index += 3
        else:
            return False
    return True


def _optionals(tokens: list[Token]) -> list[Token]:
    for index in range(len(tokens) - 1, -1, -1):
        sign = tokens[index]
        if sign.kind != "sign" or sign.text not in {".?", "[?"}:
            continue
        owner = tokens[max(0, index - 6) : index]
        if not (_is(owner, 0, "device", ".") and len(owner) == 6 and owner[2].text in _MAPS):
            raise UnreadableError("optional selection is read on device.attributes[...] only")
        key = tokens[index + 1] if index + 1 < len(tokens) else sign
        after = index + 2
        if sign.text == "[?":
            if literal(key) is None or tokens[after : after + 1] != [_INDEX_END]:
                raise UnreadableError("an optional index has to be a plain text")
            after += 1
            value = [*owner, _INDEX, key, _INDEX_END]
            there = [key, Token("name", "in"), *owner]
        else:
            if key.kind != "name":
                raise UnreadableError("an optional selection names no field")
            value = [*owner, _DOT, key]
            there = [Token("name", "has"), _OPEN, *value, _CLOSE]
        if _is(tokens, after, ".", "orValue", "("):
            args, end = arguments(tokens, after + 2)
            if len(args) != 1:
                raise UnreadableError("orValue takes one value")
            made = [
                *(_OPEN, _OPEN, *there, _CLOSE, Token("sign", "?"), *value),
                *(Token("sign", ":"), _OPEN, *args[0], _CLOSE, _CLOSE),
            ]
        elif _is(tokens, after, ".", "hasValue", "(", ")"):
            made, end = [_OPEN, *there, _CLOSE], after + 3
        else:
            raise UnreadableError("an optional is read with orValue or hasValue behind it only")
        tokens = [*tokens[: index - 6], *made, *tokens[end + 1 :]]
    return tokens


def _sets(tokens: list[Token]) -> list[Token]:
    made: list[Token] = []
    for token in tokens:
        in_sets = len(made) >= 2 and made[-1] == _DOT and made[-2] == Token("name", "sets")
        if in_sets and not (len(made) >= 3 and made[-3] == _DOT):
            made[-2:] = [Token("name", f"sets_{token.text}")]
        else:
            made.append(token)
    return made


def _referenced(tokens: list[Token]) -> Rewritten:
    if "device" in macro_variables(tokens):
        raise UnreadableError("a macro binds the name device")
    tokens = list(tokens)
    domains: dict[str, set[str]] = {"attributes": set(), "capacity": set()}
    found: set[Reference] = set()
    for index, token in enumerate(tokens):
        if token != Token("name", "device") or (index and tokens[index - 1] == _DOT):
            continue
        field = tokens[index + 2].text if _is(tokens, index + 1, ".") and _after(tokens, 2) else ""
        if field in {"driver", "allowMultipleAllocations"}:
            continue
        if field not in _MAPS:
            raise UnreadableError(f"device.{field} is unknown" if field else "device is used whole")
        found.add(_reference(tokens, index, field, domains[field]))
    return Rewritten(tokens, domains, frozenset(found))


def _after(tokens: Sequence[Token], count: int) -> bool:
    return len(tokens) > count


def _reference(tokens: list[Token], index: int, kind: str, domains: set[str]) -> Reference:
    """What the ``device`` at ``index`` looks at; changes ``tokens`` that ask for domains."""
    place = index + 3
    sign = tokens[place].text if place < len(tokens) else ""
    is_member = index > 0 and tokens[index - 1] == Token("name", "in")
    if sign not in {"[", "."}:
        if is_member:  # the map as it is, without the domains that are added for indexing
            tokens[place - 1] = Token("name", f"{kind}Domains")
            return Reference(kind, EVERYTHING, EVERYTHING)
        raise UnreadableError(f"device.{kind} is used as a whole")
    if sign == ".":
        domain = tokens[place + 1].text
        if _is(tokens, place + 2, "("):
            raise UnreadableError(f"device.{kind} is used as a whole")
        if _is(tokens, index - 2, "has", "(") and _is(tokens, place + 2, ")"):
            raise UnreadableError(f"has() of a domain of device.{kind}")
        place += 2
    else:
        end = closing(tokens, place)
        inside = tokens[place + 1 : end]
        named = literal(inside[0]) if len(inside) == 1 else None
        if named is not None:
            domain = named
        elif _is(inside, 0, "device", ".", "driver") and len(inside) == 3:
            domain = DRIVER
        else:
            raise UnreadableError(f"device.{kind} is indexed with something else than a text")
        place = end + 1
    domains.add(domain)
    if _is(tokens, place, ".") and not _is(tokens, place + 2, "("):
        return Reference(kind, domain, tokens[place + 1].text)
    key = tokens[place + 1] if _is(tokens, place, "[") and place + 2 < len(tokens) else None
    if key is not None and literal(key) is not None and tokens[place + 2] == _INDEX_END:
        return Reference(kind, domain, literal(key) or "")
    if is_member and sign == "[" and not _is(tokens, place, "["):
        member = literal(tokens[index - 2]) if index >= 2 else None
        if member is not None:
            return Reference(kind, domain, member)
    return Reference(kind, domain, EVERYTHING)
