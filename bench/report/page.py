"""All benches on one page."""

from collections.abc import Sequence

from bench.report import sections
from bench.report.figures import command_of
from bench.report.html import cell, document, row, section, table
from bench.report.svg import element, text_of
from bench.results import Results


def page(found: Sequence[Results]) -> str:
    """The page, its sections in the order given."""
    checks = [check for one in found for check in one.checks]
    failed = sum(not check.ok for check in checks)
    head = element("h1", "Inferway: what was measured") + element(
        "p",
        text_of(
            f"{len(found)} benches, {len(checks)} checks, of which "
            f"{failed or 'none'} {'does' if failed <= 1 else 'do'} not hold. "
            "Ratios say more than figures: those depend on the machine."
        ),
        class_="failed" if failed else "ok",
    )
    return document(
        "Inferway: what was measured", [head, _overview(found), *map(sections.of, found)]
    )


def _overview(found: Sequence[Results]) -> str:
    rows = []
    for one in found:
        held = sum(check.ok for check in one.checks)
        rows.append(
            row(
                cell(one.bench),
                cell(f"{held} of {len(one.checks)}", "ok" if one.ok else "failed"),
                cell(one.finished_at, "left"),
                element("td", element("code", text_of(command_of(one))), class_="left wrap"),
            )
        )
    headings = ("bench", "checks hold", "finished", "command")
    return section("To do it again", table(headings, rows, left=("finished", "command")))
