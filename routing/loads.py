"""The fleet's loads as columns: what lets a decision weigh a thousand endpoints in one sweep.

A ledger and its time models are objects, right for what happens to one request; choosing
among a thousand of them one by one costs hundreds of microseconds. `LoadTable` keeps the few
numbers that choosing needs in arrays, one row an endpoint. Whoever changes a ledger or a time
model marks its endpoint as changed; the row is written anew when somebody next asks, so many
changes between two decisions cost one write.

Time needs no rewriting: a queue of prefills drains by one second a second until its oldest
entry must be done. So a row holds when all of it would be done (``free_at``) and what is left
when the oldest entry is (``behind``), both with the overhead of a newcomer's own, and at any
time ``now`` a prompt without tokens would see its first token in

    max(free_at - now, behind)

seconds: the overhead plus the learned time of `Ledger.queued_prefill`.
"""

from collections.abc import Sequence
from math import inf
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from routing.endpoint import EndpointState
from routing.marks import Mark

Column: TypeAlias = NDArray[np.float64]
"""One number an endpoint, by row of the table or by place in a group."""

Rows: TypeAlias = NDArray[np.intp]
"""Rows of the table, or places in a group."""

_FIRST_ROWS = 64
WEIGHED: Final = 14
"""Columns at the front of the table: what `LoadTable.weighed` sums up."""
_LOADS: Final = 20  # these and what else changes with every request; behind them, with every scrape
_COLUMNS: Final = 24


class LoadTable:
    """One row an endpoint. Call `refresh` before reading; unused rows hold nothing of use.

    The columns are attributes, float64, and are replaced when the table grows: read them
    anew each time.
    """

    free_at: Column
    """When a newcomer would see its first token if it had no tokens of its own to compute."""
    behind: Column
    """The least it would have to wait, however late the oldest prefill is: seconds."""
    slope: Column
    """Seconds for each uncached prompt token."""
    tilt: Column
    """Seconds for each token that stands before an uncached one."""
    step_slope: Column
    """Seconds that each decoding sequence adds to a token."""
    decoding_slope: Column
    """``slope`` times our sequences that decode there."""
    decoding_tilt: Column
    """``tilt`` times our sequences that decode there."""
    step_tilt: Column
    """Seconds that each KV token adds to a token."""
    step_seconds: Column
    """Seconds of a token with one sequence more, and what that one adds to all of ours together."""
    step_context: Column
    """Seconds that each token of a newcomer's prompt adds to a token of its own and of ours."""
    crowded_slope: Column
    """``slope`` times the chance that KV memory taken there is missed."""
    crowded_trusted_slope: Column
    """That times what a prediction of cached tokens is to be multiplied by."""
    trusted_slope: Column
    """``slope`` times what a prediction of cached tokens is to be multiplied by."""
    trusted_tilt: Column
    """``tilt`` times the square of that."""
    requests: Column
    """Requests in flight: ours, and what the last scrape saw beyond ours."""
    foreign_waiting: Column
    """Requests of others that waited there at the last scrape."""
    foreign_running: Column
    """Requests of others that ran there at the last scrape."""
    waiting: Column
    """Requests that waited there at the last scrape, ours among them; 0 where it told none."""
    scraped_at: Column
    """When the last scrape was taken; -inf without one."""
    unseen_until: Column
    """When the oldest prefill counts as done although nothing was seen; inf when it won't."""

    def __init__(self) -> None:
        self._states: list[EndpointState | None] = []
        self._free: list[int] = []
        self._marks: list[Mark] = []  # by row
        self._marked: list[int] = []  # rows to be written anew
        self._foreign: set[int] = set()  # rows with requests of others
        self._read = False
        self._soonest = inf  # no ledger changes by the mere passing of time before this
        self._cells = np.zeros((_COLUMNS, 0))
        self._grow(_FIRST_ROWS)

    # -- who is in it ----------------------------------------------------------------------

    def add(self, state: EndpointState) -> None:
        """Give the endpoint a row (`EndpointState.row`) and follow its changes."""
        if self._free:
            state.row = self._free.pop()
            self._states[state.row] = state
        else:
            state.row = len(self._states)
            self._states.append(state)
            self._marks.append(Mark(state.row, self._marked))
            if len(self._states) > len(self.slope):
                self._grow(2 * len(self.slope))
        state.watch(self._marks[state.row])
        self.touch(state)

    def remove(self, state: EndpointState) -> None:
        """Free the endpoint's row and follow it no longer."""
        state.watch(None)
        self._foreign.discard(state.row)
        self._states[state.row] = None
        self.unseen_until[state.row] = inf
        self._free.append(state.row)

    def touch(self, state: EndpointState) -> None:
        """Its last scrape or the trust in it changed."""
        row, waiting, running = state.row, state.foreign_waiting, state.foreign_running
        if self._states[row] is not state:  # it left, and its row may be another one's
            return
        self.foreign_waiting[row] = waiting
        self.foreign_running[row] = running
        load = state.load
        self.scraped_at[row] = -inf if load is None else load.at
        self.waiting[row] = 0.0 if load is None else load.waiting or 0.0
        if waiting or running:
            self._foreign.add(row)
        else:
            self._foreign.discard(row)
        self._marks[row].set()

    # -- what it tells ---------------------------------------------------------------------

    @property
    def any_foreign(self) -> bool:
        """Whether the last scrape of some endpoint saw requests of others."""
        return bool(self._foreign)

    def wait_seconds(self, now: float) -> Column:
        """Seconds until a newcomer without tokens of its own would see its first token."""
        wait = self.free_at - now
        np.maximum(wait, self.behind, out=wait)
        return wait

    def weighed(self, weights: Column) -> Column:
        """A weighted sum of columns, in one sweep.

        Of step_seconds, step_context, slope, tilt, decoding_slope and decoding_tilt, of slope and
        decoding_slope times the chance that memory is missed, and then of the latter six as far
        as they are saved by cached tokens: slopes times trust, tilts times its square.
        """
        sums: Column = np.dot(weights, self._weighed)
        return sums

    # -- keeping it true -------------------------------------------------------------------

    def refresh(self, now: float) -> None:
        """Bring every row up to ``now``. O(what changed since the last time)."""
        self._read = True
        due = now >= self._soonest
        if due:
            for row in np.flatnonzero(self.unseen_until <= now).tolist():
                state = self._states[row]
                assert state is not None
                state.ledger.advance(now)
        self._write_marked()
        if due:
            self._soonest = float(self.unseen_until.min())

    def settle(self) -> None:
        """Write the rows that changed, if the table is read at all.

        Not needed, but good to do after a change: now what it takes is in the processor's caches,
        and the next decision has less to do.
        """
        if self._read:
            self._write_marked()

    def _write_marked(self) -> None:
        for row in self._marked:
            self._marks[row].stale = False
            state = self._states[row]
            if state is not None:
                self._write(state)
        self._marked.clear()

    def _write(self, state: EndpointState) -> None:
        row, ledger, timing = state.row, state.ledger, state.timing
        prefill, decode, trust = timing.prefill, timing.decode, state.trust.share
        slope, tilt, fixed = prefill.slope, prefill.tilt, prefill.fixed
        step, step_tilt, decoding = decode.slope, decode.tilt, ledger.decoding
        whole, behind, unseen_until = fixed, fixed, inf
        oldest = ledger.oldest
        if oldest is not None:
            whole += ledger.prefill_tokens * slope + ledger.prefill_context * tilt
            behind = whole - (oldest.prefill_tokens * slope + oldest.prefill_context * tilt)
            unseen_until = oldest.prefilled_at
            self._soonest = min(self._soonest, unseen_until)
        sure, surer = trust * slope, trust * trust * tilt
        crowded, crowded_sure = state.crowding * slope, state.crowding * sure
        self._loads[:, row] = (
            decode.fixed + (1 + 2 * decoding) * step + step_tilt * ledger.context_tokens,
            (1 + decoding) * step_tilt,
            slope,
            tilt,
            decoding * slope,
            decoding * tilt,
            crowded,
            decoding * crowded,
            sure,
            surer,
            decoding * sure,
            decoding * surer,
            crowded_sure,
            decoding * crowded_sure,
            ledger.oldest_since + whole,
            behind,
            step,
            step_tilt,
            ledger.requests + state.foreign_waiting + state.foreign_running,
            unseen_until,
        )

    def _grow(self, rows: int) -> None:
        cells = np.zeros((_COLUMNS, rows))
        cells[_LOADS - 1] = inf  # unseen_until
        cells[:, : self._cells.shape[1]] = self._cells
        self._cells = cells
        self._weighed = cells[:WEIGHED]
        (
            self.step_seconds,
            self.step_context,
            self.slope,
            self.tilt,
            self.decoding_slope,
            self.decoding_tilt,
            self.crowded_slope,
            _,
            self.trusted_slope,
            self.trusted_tilt,
            _,
            _,
            self.crowded_trusted_slope,
            _,
            self.free_at,
            self.behind,
            self.step_slope,
            self.step_tilt,
            self.requests,
            self.unseen_until,
            self.foreign_waiting,
            self.foreign_running,
            self.scraped_at,
            self.waiting,
        ) = cells  # views
        self._loads = cells[:_LOADS]


class Group:
    """Endpoints that a decision chooses among, and where they are in the table.

    What only large groups need is made when first asked for.
    """

    __slots__ = ("_names", "_places", "_rows", "endpoints", "prefillers", "table")

    def __init__(
        self,
        endpoints: Sequence[EndpointState],
        table: LoadTable,
        prefillers: Sequence[EndpointState] = (),
    ) -> None:
        self.endpoints = endpoints
        """Who may take a whole request, or decode."""
        self.table = table
        self.prefillers = prefillers
        """Who may compute a prompt for one of these; empty where no endpoint says it can."""
        self._rows: Rows | None = None
        self._names: list[str] = []
        self._places: dict[str, int] | None = None

    def rows(self, start: int) -> Rows:
        """The endpoints' rows, from the one at ``start`` on, round to the one before it."""
        if self._rows is None:
            rows = [state.row for state in self.endpoints]
            self._rows = np.array(rows + rows, dtype=np.intp)
        return self._rows[start : start + len(self.endpoints)]

    @property
    def names(self) -> list[str]:
        """The endpoints' names, twice over: from ``start`` on they are in the order of `rows`."""
        if not self._names:
            self._names = [state.name for state in self.endpoints] * 2
        return self._names

    @property
    def places(self) -> dict[str, int]:
        """Endpoint name -> its index in ``endpoints``."""
        if self._places is None:
            self._places = {state.name: place for place, state in enumerate(self.endpoints)}
        return self._places


def lowest(values: Column, count: int) -> list[int]:
    """The places of the ``count`` lowest values, lowest first; of equal ones any. O(n)."""
    places = values.argpartition(count - 1)[:count] if count < len(values) else values.argsort()
    ranked: list[int] = places[values[places].argsort()].tolist()
    return ranked


def below(values: Column, limit: float) -> list[int]:
    """The places of all values below ``limit``, in their order. O(n)."""
    places: list[int] = (values < limit).nonzero()[0].tolist()
    return places
