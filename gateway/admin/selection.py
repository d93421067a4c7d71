"""Which decisions a page is asked for: its query, read strictly, and who fits it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.admin.receipts import IN_FLIGHT, OUTCOMES
from routing.receipts import Receipt, Receipts

DEFAULT_LIMIT = 20
_LIMIT = re.compile(r"[1-9][0-9]{0,5}", re.ASCII)
_SECONDS = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?", re.ASCII)
_SWITCHES = {"1": True, "true": True, "0": False, "false": False}
_NAMES = ("limit", "endpoint", "outcome", "slow", "surprising")


class SelectionError(ValueError):
    """The query can't be read; the message names the parameter and what it may be."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Conditions that all must hold; None and False: any."""

    limit: int = DEFAULT_LIMIT
    endpoint: str | None = None
    """Where the request is, was last, or failed."""
    outcome: str | None = None
    """One of `gateway.admin.receipts.OUTCOMES`."""
    slow: float | None = None
    """Seconds that it waited at least for its first token, or for all of an unstreamed answer."""
    surprising: bool = False
    """The first token came far from when it was expected."""

    def fits(self, receipt: Receipt, receipts: Receipts, now: float) -> bool:
        """Whether a receipt meets the conditions."""
        decision = receipt.decision
        if self.endpoint is not None and self.endpoint not in (
            decision.endpoint.name,
            *(tried.endpoint for tried in decision.attempts),
        ):
            return False
        if self.outcome is not None and self.outcome != _outcome(receipt):
            return False
        if self.slow is not None and waited(receipt, now) < self.slow:
            return False
        return not self.surprising or receipts.surprising(receipt)


def read_selection(query: Mapping[str, str]) -> Selection:
    """The selection that a query asks for. Raises `SelectionError`."""
    for name in query:
        if name not in _NAMES:
            raise SelectionError(f"no parameter {name!r}: there are {', '.join(_NAMES)}")
    limit = query.get("limit", str(DEFAULT_LIMIT))
    if not _LIMIT.fullmatch(limit):
        raise SelectionError(f"limit is {limit[:32]!r}: give a whole number from 1 to 999999")
    outcome = query.get("outcome")
    if outcome is not None and outcome not in OUTCOMES:
        raise SelectionError(f"outcome is {outcome[:32]!r}: give one of {', '.join(OUTCOMES)}")
    slow = query.get("slow")
    if slow is not None and not _SECONDS.fullmatch(slow):
        raise SelectionError(f"slow is {slow[:32]!r}: give seconds, such as 2 or 0.5")
    switch = query.get("surprising", "false")
    if switch not in _SWITCHES:
        raise SelectionError(f"surprising is {switch[:32]!r}: give true or false")
    return Selection(
        limit=int(limit),
        endpoint=query.get("endpoint"),
        outcome=outcome,
        slow=None if slow is None else float(slow),
        surprising=_SWITCHES[switch],
    )


def waited(receipt: Receipt, now: float) -> float:
    """Seconds from routing to the first token, or to the end (or now) if none was seen."""
    decision = receipt.decision
    end = decision.first_token_at
    if end is None:
        end = decision.finished_at
    return (now if end is None else end) - decision.at


def _outcome(receipt: Receipt) -> str:
    """A failure that may still be retried is not the end."""
    outcome = receipt.decision.outcome
    return IN_FLIGHT if outcome is None or not receipt.over else outcome
