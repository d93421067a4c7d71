"""What a request wants of its answer's speed: by its own headers, by name, or nothing special.

Headers are those of the Gateway API Inference Extension and llm-d: an objective by its
configured name (``x-gateway-inference-objective``, ``x-llm-d-inference-objective``), and targets
in milliseconds (``x-slo-ttft-ms``, ``x-slo-tpot-ms``, or with ``x-llm-d-`` before), which win.
A name that is not configured means nothing special, as there. Whose request it is, where tenants
are to get fair shares, is in ``x-gateway-inference-fairness-id`` (or ``x-llm-d-``...).
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from gateway.apis.call import ApiError
from gateway.settings import Objective

_NAMES: Final = (b"x-llm-d-inference-objective", b"x-gateway-inference-objective")
_TTFT: Final = (b"x-llm-d-slo-ttft-ms", b"x-slo-ttft-ms")
_ITL: Final = (b"x-llm-d-slo-tpot-ms", b"x-slo-tpot-ms")
_FAIRNESS: Final = (b"x-llm-d-inference-fairness-id", b"x-gateway-inference-fairness-id")
_LONGEST_MS: Final = 86_400_000.0
DEFAULT_TENANT: Final = "default-flow"
"""Whose requests those are that name nobody; the reference picker's word."""


def tenant_of(fields: Mapping[bytes, bytes]) -> str:
    """Whose request it is."""
    for name in _FAIRNESS:
        if fields.get(name):
            return fields[name].decode("latin-1")
    return DEFAULT_TENANT


def objective_named(fields: Mapping[bytes, bytes]) -> str | None:
    """The objective that a request names; None when it names none."""
    for name in _NAMES:
        if name in fields:
            return fields[name].decode("latin-1")
    return None


class Targets(NamedTuple):
    """Seconds to the first token and between tokens; None: nothing special."""

    ttft: float | None
    itl: float | None


_NONE: Final = Targets(None, None)


def targets_of(fields: Mapping[bytes, bytes], objectives: Mapping[str, Objective]) -> Targets:
    """The request's own targets; `ApiError` (400) for a header that is no time."""
    ttft, itl = _milliseconds(fields, _TTFT), _milliseconds(fields, _ITL)
    objective = None
    if objectives:
        for name in _NAMES:
            if name in fields:
                objective = objectives.get(fields[name].decode("latin-1"))
                break
    if objective is not None:
        return Targets(
            objective.ttft if ttft is None else ttft, objective.itl if itl is None else itl
        )
    return _NONE if ttft is None and itl is None else Targets(ttft, itl)


def _milliseconds(fields: Mapping[bytes, bytes], names: tuple[bytes, bytes]) -> float | None:
    for name in names:
        value = fields.get(name)
        if value is None:
            continue
        try:
            given = float(value)
        except ValueError:
            given = 0.0
        if not 0.0 < given <= _LONGEST_MS:
            raise ApiError(
                400,
                "invalid_header",
                f"{name.decode()} must be a number of milliseconds above 0.",
                param=name.decode(),
            )
        return given / 1000.0
    return None
