"""Whether some endpoint can begin with another request soon.

An engine needs no more waiting than keeps it busy until we look again. What waits there beyond
that has lost: it can't be overtaken by a more important request, nor move to an endpoint that
turns out to be free sooner. So an endpoint has room while a newcomer would see its prompt begin
within ``longest_wait`` seconds, by the ledger and the learned times, fewer than ``QUEUE`` requests
waited there at a recent scrape (`routing.saturation`; engines wait for KV memory too, which no
ledger shows), and fewer than ``most_requests`` are in flight there.
"""

import numpy as np

from routing.admission.entry import LaneKey
from routing.endpoint import SCRAPE_FRESH_SECONDS
from routing.fleet import Fleet
from routing.saturation import QUEUE


def has_room(
    fleet: Fleet,
    lane: LaneKey,
    now: float,
    longest_wait: float,
    *,
    most_requests: int | None = None,
) -> bool | None:
    """Whether one of a lane's endpoints has room; None: it has no endpoint. O(endpoints)."""
    group = fleet.candidates(lane.model)
    if group is None:
        return None
    table = fleet.table
    table.refresh(now)
    rows = group.rows(0)
    if lane.within is not None:
        inside = [state.row for state in group.endpoints if state.name in lane.within]
        if not inside:
            return None
        rows = np.array(inside, dtype=np.intp)
    begins = np.maximum(table.free_at[rows] - now, table.behind[rows])
    waiting = table.waiting[rows]
    waiting[table.scraped_at[rows] < now - SCRAPE_FRESH_SECONDS] = 0.0
    room = (begins <= longest_wait) & (waiting < QUEUE)
    if most_requests is not None:
        room &= table.requests[rows] < most_requests
    return bool(room.any())
