"""Several series of one metric made one number.

An engine with several ranks exposes a series each. What counts requests, tokens or blocks
adds up; a share is averaged. A metric that is absent, or has no finite value, is None:
not reported, which is not zero.
"""

import math
import re
from collections.abc import Iterable

from endpoints.engines.exposition import Sample, Scrape

_WHOLE = re.compile(r"[1-9][0-9]{0,14}")


def total(scrape: Scrape, *names: str, mirrors: frozenset[str] = frozenset()) -> float | None:
    """Sum of the series of the first of ``names`` (newest name first) that has any.

    Series that differ only in the labels ``mirrors`` tell of the same requests (the ranks
    of one tensor-parallel group): the largest of them counts.
    """
    values = _values(scrape, names, mirrors)
    return sum(values) if values else None


def mean(scrape: Scrape, *names: str, mirrors: frozenset[str] = frozenset()) -> float | None:
    """Mean over the series of the first of ``names`` that has any; ``mirrors`` as in `total`."""
    values = _values(scrape, names, mirrors)
    return sum(values) / len(values) if values else None


def whole(value: float | None) -> int | None:
    """A size as a positive whole number; None when there is none."""
    return int(value) if value is not None and value >= 1 else None


def label_numbers(samples: Iterable[Sample], label: str) -> list[int]:
    """The values of ``label`` that are positive whole numbers (engines also write ``None``)."""
    texts = (sample.labels.get(label, "") for sample in samples)
    return [int(text) for text in texts if _WHOLE.fullmatch(text)]


def where(scrape: Scrape, name: str, **labels: str) -> Scrape:
    """The series of ``name`` that carry these label values, as a scrape of their own."""
    chosen = [
        sample
        for sample in scrape.samples.get(name, ())
        if all(sample.labels.get(label) == value for label, value in labels.items())
    ]
    return Scrape({name: chosen} if chosen else {})


def _values(scrape: Scrape, names: Iterable[str], mirrors: frozenset[str]) -> list[float]:
    for name in names:
        values = list(_distinct(scrape.samples.get(name, ()), mirrors))
        if values:
            return values
    return []


def _distinct(samples: Iterable[Sample], mirrors: frozenset[str]) -> Iterable[float]:
    largest: dict[frozenset[tuple[str, str]], float] = {}
    for sample in samples:
        if math.isfinite(sample.value):
            key = frozenset(item for item in sample.labels.items() if item[0] not in mirrors)
            largest[key] = max(largest.get(key, sample.value), sample.value)
    return largest.values()
