"""What a line must be worth, and what it may cost."""

from collections.abc import Iterator, Sequence

from bench.admission.cases import (
    ALL,
    CALM,
    FITS,
    NORMAL,
    PRIORITIES,
    TENANTS,
    URGENT,
    Fared,
    Group,
)
from bench.admission.simulation import Manner
from bench.results import Check, at_least, at_most

SHORTER = 0.7
"""The urgent's and the calm tenants' median wait with a line, as a share of that without."""
SAME = 1.02
"""What a line may cost at most where the pool can take everything, and in all at overload."""


def checks(found: Sequence[Fared], overload: float) -> Iterator[Check]:
    """The bars, from medians; ``overload``: the speed that is too much."""
    by = {(one.scene, one.speed, one.manner): one for one in found}

    def of(scene: str, speed: float, manner: Manner, kind: str = ALL) -> Group:
        return by[scene, speed, manner].groups[kind]

    for scene, kind in ((PRIORITIES, URGENT), (TENANTS, CALM)):
        plain = of(scene, overload, Manner.ENGINES, kind).ttft_p50
        lined = of(scene, overload, Manner.LINE, kind).ttft_p50
        yield at_most(
            f"{scene}: median TTFT of the {kind} at overload", _ratio(lined, plain), SHORTER, "x"
        )
        spans = [by[scene, overload, manner].span for manner in (Manner.LINE, Manner.ENGINES)]
        yield at_most(f"{scene}: time to serve all at overload", spans[0] / spans[1], SAME, "x")
        fits = of(scene, FITS, Manner.LINE).ttft_mean
        before = of(scene, FITS, Manner.ENGINES).ttft_mean
        yield at_most(f"{scene}: mean TTFT where all fits", _ratio(fits, before), SAME, "x")
        answered = of(scene, overload, Manner.LINE).answered
        yield at_least(f"{scene}: answered at overload", answered, 1.0, "")
    urgent = of(PRIORITIES, overload, Manner.LINE, URGENT).ttft_p50
    normal = of(PRIORITIES, overload, Manner.LINE, NORMAL).ttft_p50
    yield at_most(f"{URGENT} before {NORMAL} at overload", _ratio(urgent, normal), 1.0, "x")


def _ratio(value: float | None, base: float | None) -> float | None:
    return None if value is None or not base else value / base
