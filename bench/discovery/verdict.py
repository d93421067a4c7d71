"""What should have been seen against what was: lags, missed changes, phantoms. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


class Change(NamedTuple):
    """An endpoint is there from ``at`` (seconds) on, at that URL; None: it is not."""

    at: float
    endpoint: str
    url: str | None


@dataclass(slots=True)
class Verdict:
    """``lags`` in seconds; ``superseded``: changes that were over before they had to be seen."""

    lags: list[float] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    phantoms: list[str] = field(default_factory=list)
    superseded: int = 0


def judge(made: Iterable[Change], seen: Iterable[Change], bound: float) -> Verdict:
    """Hold ``seen`` against ``made``, both in the order of time.

    A change must be seen before the next one of the same endpoint is made, unless that comes
    within ``bound`` seconds: then it may be skipped. What is seen without having been made within
    the time that it was true, or ``bound`` seconds after, is a phantom. A lag may be negative by
    what the clock of a change, which is read before it is asked for, allows; it then counts as 0.
    """
    verdict = Verdict()
    by_endpoint: dict[str, tuple[list[Change], list[Change]]] = {}
    for index, changes in enumerate((made, seen)):
        for change in changes:
            by_endpoint.setdefault(change.endpoint, ([], []))[index].append(change)
    for name, (wanted, got) in by_endpoint.items():
        _judge_one(name, wanted, got, bound, verdict)
    return verdict


def _judge_one(
    name: str, wanted: Sequence[Change], got: Sequence[Change], bound: float, verdict: Verdict
) -> None:
    for number, change in enumerate(wanted):
        until = wanted[number + 1].at if number + 1 < len(wanted) else float("inf")
        at = _first_true(got, change, until)
        if at is not None:
            verdict.lags.append(max(0.0, at - change.at))
        elif until - change.at <= bound:
            verdict.superseded += 1
        else:
            verdict.missed.append(f"{name} {'came' if change.url else 'left'} at {change.at:.3f}")
    for sight in got:
        if not _was_true(wanted, sight, bound):
            verdict.phantoms.append(f"{name} as {sight.url} at {sight.at:.3f}")


def _first_true(got: Sequence[Change], change: Change, until: float) -> float | None:
    """When, in ``change.at`` to ``until``, it was first seen as the change has it."""
    known: str | None = None
    for sight in got:
        if sight.at > change.at:
            break
        known = sight.url
    if known == change.url:
        return change.at
    for sight in got:
        if change.at < sight.at < until and sight.url == change.url:
            return sight.at
    return None


def _was_true(wanted: Sequence[Change], sight: Change, bound: float) -> bool:
    """Whether what is seen was so at that time, or at most ``bound`` seconds before."""
    held = [change for change in wanted if change.at <= sight.at]
    if sight.url is None and not held:
        return True  # before it was made
    for number, change in enumerate(wanted):
        until = wanted[number + 1].at if number + 1 < len(wanted) else float("inf")
        if change.url == sight.url and change.at <= sight.at <= until + bound:
            return True
    return False


def differences(made: Mapping[str, str], seen: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """At the end: endpoints that are missing, and those that should not be there."""
    missing = [name for name, url in made.items() if seen.get(name) != url]
    phantom = [name for name, url in seen.items() if made.get(name) != url]
    return sorted(missing), sorted(phantom)
