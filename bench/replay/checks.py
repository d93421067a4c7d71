"""The bars for our default policy: against every rival on every load, and under every fault.

The clairvoyant policy reads the engines' exact state, which no gateway has: it is no rival. A
figure of the best rival is the best that any rival reaches in that figure, so the bar is an
imaginary policy that has every rival's best side.
"""

from collections.abc import Iterable, Iterator, Sequence

from bench.replay.clairvoyant import Clairvoyant
from bench.replay.suite import Load
from bench.replay.summary import Median
from bench.results import Check, at_most
from routing.policies import DEFAULT_POLICY

CLAIRVOYANT = Clairvoyant.name

FAULT_GROWTH = 1.3
"""How much a fault may raise our p90 TTFT when a rival does better under it."""


def checks(
    loads: Sequence[Load], found: Sequence[Median], robust_on: Load | None = None
) -> list[Check]:
    """All bars that apply to what was played; none without our default or without a rival.

    ``robust_on``: the load that was also played under faults.
    """
    policies = {one.policy for one in found}
    if DEFAULT_POLICY not in policies or not policies - {DEFAULT_POLICY, CLAIRVOYANT}:
        return []
    made = [check for load in loads for check in _load_checks(load, found)]
    if robust_on is not None:
        made += _fault_checks(robust_on, found)
    return made


def rivals(found: Iterable[Median]) -> list[Median]:
    """Those that our default must hold its own against."""
    return [one for one in found if one.policy not in {DEFAULT_POLICY, CLAIRVOYANT}]


def best(found: Iterable[Median], figure: str, *, most: bool = False) -> Median | None:
    """Who is best in a figure (the least, or the most); None when nobody has it."""
    measured = [one for one in found if one.values.get(figure) is not None]
    pick = max if most else min
    return pick(measured, key=lambda one: one.values[figure] or 0.0, default=None)


def _load_checks(load: Load, found: Sequence[Median]) -> Iterator[Check]:
    for events in (True, False):
        group = [
            one for one in found if (one.load, one.events, one.fault) == (load.name, events, None)
        ]
        if not group:
            continue
        name = load.name if events else f"{load.name}, no events"
        for figure, words, limit in (
            ("ttft_p90", "p90 TTFT", load.bars.ttft_p90),
            ("ttft_p99", "p99 TTFT", load.bars.ttft_p99),
        ):
            value = _ratio(_value(_ours(group), figure), _best_value(group, figure))
            yield at_most(f"{name}: {words}, of the best rival's", value, limit, "ratio")
        ours, theirs = _value(_ours(group), "goodput"), _best_value(group, "goodput", most=True)
        yield at_most(
            f"{name}: goodput, the best rival's lead",
            None if ours is None or theirs is None else (theirs - ours) * 100,
            0.0 - load.bars.goodput_lead,  # never -0
            "points",
        )
        failed = sum(len(one.failures) for one in group if one.policy == DEFAULT_POLICY)
        if failed:
            yield at_most(f"{name}: runs that failed", failed, 0, "runs")


def _fault_checks(load: Load, found: Sequence[Median]) -> Iterator[Check]:
    on_load = [one for one in found if one.load == load.name and one.events]
    calm = _value(_ours([one for one in on_load if one.fault is None]), "ttft_p90")
    faults = dict.fromkeys(one.fault for one in on_load if one.fault is not None)
    for fault in faults:
        group = [one for one in on_load if one.fault == fault]
        ours = _value(_ours(group), "ttft_p90")
        bounds = [
            bound
            for bound in (
                None if calm is None else FAULT_GROWTH * calm,
                _best_value(group, "ttft_p90"),
            )
            if bound is not None
        ]
        yield at_most(
            f"{load.name}, {fault}: p90 TTFT, of the larger of {FAULT_GROWTH:g} x undisturbed and "
            "the best rival's",
            _ratio(ours, max(bounds, default=None)),
            1.0,
            "ratio",
        )


def _ours(group: Iterable[Median]) -> Median | None:
    return next((one for one in group if one.policy == DEFAULT_POLICY), None)


def _value(one: Median | None, figure: str) -> float | None:
    return None if one is None else one.values.get(figure)


def _best_value(group: Iterable[Median], figure: str, *, most: bool = False) -> float | None:
    return _value(best(rivals(group), figure, most=most), figure)


def _ratio(ours: float | None, theirs: float | None) -> float | None:
    return None if ours is None or not theirs else ours / theirs
