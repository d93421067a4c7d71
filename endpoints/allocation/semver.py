"""Semantic versions (semver.org 2.0.0), ordered as Kubernetes orders them."""

import re
from typing import NamedTuple

_NUMBER = r"0|[1-9]\d*"
_FORM = re.compile(
    rf"(?P<major>{_NUMBER})\.(?P<minor>{_NUMBER})\.(?P<patch>{_NUMBER})"
    r"(?:-(?P<pre>[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?"
    r"(?:\+(?P<build>[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?"
)


class Semver(NamedTuple):
    """A version; ``pre`` holds the pre-release's identifiers. Build metadata is only text."""

    major: int
    minor: int
    patch: int
    pre: tuple[str, ...] = ()
    build: str = ""

    @property
    def canonical(self) -> str:
        """As text, without build metadata, which orders nothing."""
        core = f"{self.major}.{self.minor}.{self.patch}"
        return f"{core}-{'.'.join(self.pre)}" if self.pre else core

    def __str__(self) -> str:
        return f"{self.canonical}+{self.build}" if self.build else self.canonical

    @property
    def order(self) -> tuple[object, ...]:
        """Sorts as the standard says: a release after its pre-releases, numbers before texts."""
        identifiers = tuple((0, int(one), "") if one.isdigit() else (1, 0, one) for one in self.pre)
        return (self.major, self.minor, self.patch, not self.pre, identifiers)


def parse_semver(text: str) -> Semver:
    """The version that is written; ValueError when it is none, leading zeros included."""
    found = _FORM.fullmatch(text)
    pre = tuple(found["pre"].split(".")) if found and found["pre"] else ()
    if found is None or any(one.isdigit() and one != "0" and one[0] == "0" for one in pre):
        raise ValueError(f"{text!r} is no semantic version; write major.minor.patch")
    return Semver(
        int(found["major"]), int(found["minor"]), int(found["patch"]), pre, found["build"] or ""
    )


def normalised_semver(text: str) -> Semver:
    """As Kubernetes' ``semver(text, true)``: a leading v, leading zeros, missing parts allowed."""
    core, mark, rest = text.removeprefix("v"), "", ""
    for index, letter in enumerate(core):
        if letter in "-+":
            core, mark, rest = core[:index], letter, core[index + 1 :]
            break
    parts = [part.lstrip("0") or "0" if part.isdigit() else part for part in core.split(".")]
    parts += ["0"] * (3 - len(parts))
    return parse_semver(".".join(parts) + mark + rest)


def compare(left: Semver, right: Semver) -> int:
    """-1, 0 or 1."""
    a, b = left.order, right.order
    return (a > b) - (a < b)
