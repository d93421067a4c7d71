"""Plays faults, one fresh scene each, and judges what came of them."""

import asyncio
from collections.abc import Callable, Sequence

from msgspec import Struct
from rich.table import Table

from bench.chaos.clients import Clients, Fate, Verdict
from bench.chaos.faults import Fault
from bench.chaos.scene import Scene
from bench.pulse import PAUSE_SECONDS, Pulse
from bench.results import Check, at_least, at_most, number

_RETURN_SECONDS = 45.0
_SETTLE_SECONDS = 10.0
_AFTER_SECONDS = 1.0
_TIMES = 3


class Row(Struct, frozen=True, kw_only=True):
    """What one fault did. Counts are of requests; times in seconds.

    ``errors`` and ``bad`` (wrong or lost) by kind. ``felt``: from the fault's beginning to the
    end of the last request that did not go well; None: all went well. ``returned``: from its end
    to the first right answer of the victim; None: there is no single victim, or it never
    answered again. ``paused_seconds`` is the longest time for which this process itself did not
    get to run: such times are the machine's, not the gateway's.
    """

    fault: str
    what: str
    strikes: int
    offered: int
    answered: int
    errors: int
    wrong: int
    lost: int
    retries: int
    felt: float | None
    returned: float | None
    one_victim: bool
    ledger_left: int
    in_flight_left: int
    rss_before: int
    rss_after: int
    descriptors_before: int
    descriptors_after: int
    longest_seconds: float
    paused_seconds: float
    error_kinds: dict[str, int]
    bad_kinds: dict[str, int]


async def play(
    fault: Fault, *, servers: int, clients: int, seconds: float, warm_up: float, seed: int
) -> Row:
    """One fault, from a warm start to the victim's return. Raises RuntimeError, OSError."""
    loop = asyncio.get_running_loop()
    async with Scene(servers, clients, f"{seed} {fault.name}", fault.needs) as scene:
        crowd, gateway = scene.clients, scene.gateway
        pulse = Pulse()
        await crowd.start()
        await asyncio.sleep(warm_up)
        before, begun = gateway.usage(), loop.time()
        async with fault.during(scene) as struck:
            await asyncio.sleep(seconds)
        over = loop.time()
        if fault.one_victim:
            await _until_served(crowd, scene.victims_name, over)
        await asyncio.sleep(_AFTER_SECONDS)
        await crowd.stop()
        books = await gateway.books()
        end = loop.time() + _SETTLE_SECONDS
        while (books.ledger_requests or books.in_flight) and loop.time() < end:
            await asyncio.sleep(0.1)
            books = await gateway.books()
        after = gateway.usage()
        verdicts = crowd.verdicts()
        troubled = [fate.ended for fate in crowd.fates if fate.verdict is not Verdict.ANSWERED]
        return Row(
            fault=fault.name,
            what=fault.what,
            strikes=struck.count(),
            offered=crowd.offered,
            answered=verdicts[Verdict.ANSWERED],
            errors=verdicts[Verdict.ERROR],
            wrong=verdicts[Verdict.WRONG],
            lost=verdicts[Verdict.LOST],
            retries=books.retries,
            felt=max(troubled) - begun if troubled else None,
            returned=_returned(crowd.fates, scene.victims_name, over) if fault.one_victim else None,
            one_victim=fault.one_victim,
            ledger_left=books.ledger_requests,
            in_flight_left=books.in_flight,
            rss_before=before.rss_bytes,
            rss_after=after.rss_bytes,
            descriptors_before=before.descriptors,
            descriptors_after=after.descriptors,
            paused_seconds=pulse.stop(),
            longest_seconds=max(fate.ended - fate.began for fate in crowd.fates),
            error_kinds=dict(crowd.kinds(Verdict.ERROR)),
            bad_kinds=dict(crowd.kinds(Verdict.WRONG, Verdict.LOST)),
        )


def _returned(fates: Sequence[Fate], name: str, over: float) -> float | None:
    ends = [
        fate.ended
        for fate in fates
        if fate.endpoint == name and fate.verdict is Verdict.ANSWERED and fate.began >= over
    ]
    return min(ends) - over if ends else None


async def _until_served(crowd: Clients, name: str, over: float) -> None:
    end = over + _RETURN_SECONDS
    while _returned(crowd.fates, name, over) is None:
        if asyncio.get_running_loop().time() > end:
            return
        await asyncio.sleep(0.1)


async def play_all(
    faults: Sequence[Fault],
    *,
    servers: int,
    clients: int,
    seconds: float,
    warm_up: float,
    seed: int,
    progress: Callable[[str], object],
) -> list[Row]:
    """All of them, one after the other. Raises RuntimeError, OSError.

    One during which the machine stood still is played again, up to twice.
    """
    rows = []
    for fault in faults:
        for time in range(_TIMES):
            progress(f"{fault.name}: {fault.what}" + " (once more)" * bool(time))
            row = await play(
                fault,
                servers=servers,
                clients=clients,
                seconds=seconds,
                warm_up=warm_up,
                seed=seed,
            )
            if row.paused_seconds < PAUSE_SECONDS:
                break
        rows.append(row)
    return rows


def checks(rows: Sequence[Row]) -> list[Check]:
    """The bars of every row: it struck, and no answer was wrong or lost, nothing was left over."""
    found = []
    for row in rows:
        unaccounted = row.offered - row.answered - row.errors - row.wrong
        found += [
            at_least(f"{row.fault}: strikes", row.strikes, 1, "times"),
            at_most(f"{row.fault}: wrong answers", row.wrong, 0, "requests"),
            at_most(f"{row.fault}: lost", max(row.lost, unaccounted), 0, "requests"),
            at_most(
                f"{row.fault}: left in ledgers", row.ledger_left + row.in_flight_left, 0, "requests"
            ),
        ]
        if row.one_victim:
            found.append(
                at_most(f"{row.fault}: until it is used again", row.returned, 30, "seconds")
            )
    return found


def shown(rows: Sequence[Row]) -> Table:
    """The rows for people."""
    table = Table(title="faults under load")
    for heading in (
        *("fault", "struck", "offered", "answered", "errors", "wrong", "lost", "retries"),
        *("felt s", "used again s", "longest s", "left", "MB grown", "errors by kind"),
    ):
        table.add_column(
            heading, justify="left" if heading.endswith(("fault", "kind")) else "right"
        )
    for row in rows:
        kinds = {**row.error_kinds, **row.bad_kinds}
        table.add_row(
            row.fault,
            *(
                number(value)
                for value in (
                    *(row.strikes, row.offered, row.answered, row.errors, row.wrong, row.lost),
                    *(row.retries, row.felt, row.returned, row.longest_seconds),
                    row.ledger_left + row.in_flight_left,
                    (row.rss_after - row.rss_before) / 1e6,
                )
            ),
            ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items())),
        )
    return table
