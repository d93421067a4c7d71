"""Kubernetes quantities as whole billionths (nano units) of their base unit.

A Quantity has at most nine decimal places (smaller parts are rounded away from zero), so that an
integer of billionths holds every one exactly, compares fast, and sums without error.
"""

import re
from decimal import ROUND_UP, Context, Decimal

NANO = 1_000_000_000
_FORM = re.compile(
    r"(?P<number>[+-]?(?:\d+\.?\d*|\.\d+))(?:(?P<suffix>[KMGTPE]i|[numkMGTPE])|[eE](?P<power>[+-]?\d{1,3}))?"
)
_BINARY = {f"{letter}i": 1024**power for power, letter in enumerate("KMGTPE", 1)}
_DECIMAL = {
    letter: Decimal(10) ** power
    for letter, power in zip("numkMGTPE", (-9, -6, -3, 3, 6, 9, 12, 15, 18), strict=True)
}
_EXACT = Context(prec=1_100, rounding=ROUND_UP)
_SMALL = ((NANO, ""), (1_000_000, "m"), (1_000, "u"), (1, "n"))


def parse_quantity(text: str | int | float) -> int:
    """Billionths of what is written: ``"80Gi"``, ``"500m"``, ``"1e3"``. ValueError otherwise."""
    if isinstance(text, bool) or not isinstance(text, str | int | float):
        raise ValueError(f"{text!r} is no quantity; write a number with a suffix, such as 80Gi")
    found = _FORM.fullmatch(str(text))
    if found is None:
        raise ValueError(f"{text!r} is no quantity; write a number with a suffix, such as 80Gi")
    value = Decimal(found["number"])
    suffix, power = found["suffix"], found["power"]
    if suffix:
        value = _EXACT.multiply(value, Decimal(_BINARY.get(suffix) or _DECIMAL[suffix]))
    elif power:
        value = _EXACT.scaleb(value, int(power))
    return int(_EXACT.to_integral_value(_EXACT.multiply(value, NANO)))


def written_quantity(nanos: int) -> str:
    """The shortest usual form: binary suffixes where they divide it, else decimal ones."""
    if nanos % NANO == 0:
        whole = nanos // NANO
        for suffix, factor in reversed(_BINARY.items()):
            if whole and whole % factor == 0:
                return f"{whole // factor}{suffix}"
        return str(whole)
    unit, suffix = next(pair for pair in _SMALL if nanos % pair[0] == 0)
    return f"{nanos // unit}{suffix}"
