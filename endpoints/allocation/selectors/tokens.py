"""CEL text as tokens: enough to rewrite an expression without parsing it."""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

_TOKEN = re.compile(
    r"""
      (?P<space>   \s+ | //[^\n]* )
    | (?P<text>    (?:[rR][bB]?|[bB][rR]?)? (?: \"\"\"(?:\\.|(?!\"\"\").)*\"\"\"
                   | '''(?:\\.|(?!''').)*''' | "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*' ) )
    | (?P<number>  0x[0-9a-fA-F]+[uU]? | (?:\d+\.\d+|\.\d+|\d+)(?:[eE][+-]?\d+)?[uU]? )
    | (?P<name>    [A-Za-z_][A-Za-z0-9_]* )
    | (?P<sign>    &&|\|\||==|!=|<=|>=|\.\?|\[\?|\{\?|[-+*/%!<>()\[\]{}.,:?] )
    """,
    re.VERBOSE | re.DOTALL,
)
_OPENING = {"(": ")", "[": "]", "{": "}", "[?": "]"}
_CLOSING = frozenset(")]}")


class Token(NamedTuple):
    """``kind`` is text, number, name or sign."""

    kind: str
    text: str


class UnreadableError(ValueError):
    """The expression can't be taken apart here; the message says why."""


def tokens_of(expression: str) -> list[Token]:
    """The expression's tokens without blanks and comments. Raises UnreadableError."""
    found, place = [], 0
    while place < len(expression):
        match = _TOKEN.match(expression, place)
        if match is None:
            raise UnreadableError(f"{expression[place : place + 12]!r} can't be read")
        if match.lastgroup != "space":
            found.append(Token(match.lastgroup or "", match.group()))
        place = match.end()
    return found


def text_of(tokens: Iterable[Token]) -> str:
    """An expression again."""
    return " ".join(token.text for token in tokens)


def literal(token: Token) -> str | None:
    """What a plain text literal says; None for another token or one with escapes or prefix."""
    text = token.text
    if token.kind != "text" or text[0] not in "\"'" or "\\" in text:
        return None
    return text[3:-3] if len(text) >= 6 and text[:3] in {'"""', "'''"} else text[1:-1]


def closing(tokens: Sequence[Token], opening: int) -> int:
    """The index of what closes the bracket at ``opening``. Raises UnreadableError."""
    expected: list[str] = []
    for index in range(opening, len(tokens)):
        token = tokens[index]
        if token.kind != "sign":
            continue
        if token.text in _OPENING:
            expected.append(_OPENING[token.text])
        elif token.text in _CLOSING:
            if not expected or expected.pop() != token.text:
                break
            if not expected:
                return index
    raise UnreadableError("its brackets do not match")


def arguments(tokens: Sequence[Token], opening: int) -> tuple[list[list[Token]], int]:
    """The arguments of the call whose bracket opens at ``opening``, and where it closes."""
    end = closing(tokens, opening)
    found: list[list[Token]] = [[]]
    index = opening + 1
    while index < end:
        token = tokens[index]
        if token.kind == "sign" and token.text in _OPENING:
            after = closing(tokens, index) + 1
            found[-1].extend(tokens[index:after])
            index = after
            continue
        if token == Token("sign", ","):
            found.append([])
        else:
            found[-1].append(token)
        index += 1
    return ([] if found == [[]] else found), end
