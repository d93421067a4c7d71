"""llm-d's scheduling profile: scorers with weights, and a picker."""

from collections.abc import Sequence
from math import inf, log
from random import Random
from typing import ClassVar, Literal, NamedTuple, TypeAlias

from routing.policies.policy import Choice, Slate
from routing.request import Request
from routing.scorers import NoHit, Scorer
from routing.scores import at_least, best_places, random_ties

Picker: TypeAlias = Literal["max", "random", "weighted"]


class Weighted(NamedTuple):
    """A scorer and how much it counts."""

    name: str
    scorer: Scorer
    weight: float


class Scored:
    """The total is the sum of each scorer's number, cut to 0..1, times its weight.

    The picker takes the highest totals (``max``, equal ones in random order), or draws without
    looking at them (``random``), or draws with chances in proportion to them (``weighted``:
    Efraimidis and Spirakis' A-Res, the highest u^(1/total)). Score: minus the total.

    Parameters: scorers (`routing.scorers`); picker (max); seed (0).

    Source: llm-d-inference-scheduler, one scheduling profile of an ``EndpointPickerConfig`` with
    its ``max-score-picker``, ``random-picker`` or ``weighted-random-picker``.
    """

    name: ClassVar[str] = "scored"

    def __init__(self, scorers: Sequence[Weighted], picker: Picker = "max", seed: int = 0) -> None:
        for scorer in scorers:
            at_least(f"weight of {scorer.name}", scorer.weight, 0.0)
        self._scorers = tuple(scorers)
        self._picker: Picker = picker
        self._random = Random(seed)
        self._told = [one.scorer for one in scorers if isinstance(one.scorer, NoHit)]
        self._words = "{:.3f}: " + ", ".join(f"{one.name} {{:.2f}}" for one in scorers)

    def pick(self, request: Request, slate: Slate, now: float, count: int) -> list[Choice]:
        """Rank as the picker does."""
        endpoints = slate.endpoints
        columns = [
            [min(max(score, 0.0), 1.0) for score in one.scorer(request, endpoints, slate.held)]
            for one in self._scorers
        ]
        totals = [0.0] * len(endpoints)
        for one, column in zip(self._scorers, columns, strict=True):
            for place, score in enumerate(column):
                totals[place] += one.weight * score
        ranked = best_places(self._keys(totals), random_ties(self._random, len(totals)), count)
        first = endpoints[ranked[0]]
        if self._told:
            cold = not any(slate.held.blocks(state.name) for state in endpoints)
            for told in self._told:
                told.chosen(first.name, cold=cold)
        return [
            Choice(
                endpoint=endpoints[place],
                score=-totals[place],
                cached_tokens=slate.cached_tokens(endpoints[place]),
                predicted_ttft=None,
                explanation=self._words,
                facts=(totals[place], *(column[place] for column in columns)),
            )
            for place in ranked
        ]

    def _keys(self, totals: Sequence[float]) -> list[float]:
        """What to rank by, lowest first."""
        if self._picker == "random":
            return [0.0] * len(totals)
        if self._picker == "weighted" and any(totals):
            # u^(1/w) is highest where log(u)/w is, and the logarithm does not underflow.
            draws = [log(1.0 - self._random.random()) for _ in totals]
            return [
                -draw / total if total else inf for draw, total in zip(draws, totals, strict=True)
            ]
        return [-total for total in totals]
