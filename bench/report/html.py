"""Pages, sections and tables as HTML text: no network, no fonts, no libraries."""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from bench.report.svg import element, text_of
from bench.results import Check, number

_FOLDER = Path(__file__).parent


def document(title: str, parts: Iterable[str]) -> str:
    """A whole page; empty parts are left out."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text_of(title)}</title>"
        f"<style>{(_FOLDER / 'style.css').read_text()}</style></head><body>\n"
        + "\n".join(part for part in parts if part)
        + f"\n<script>{(_FOLDER / 'hover.js').read_text()}</script></body></html>\n"
    )


def section(title: str, *parts: str) -> str:
    """A part of the page, with its heading."""
    return element("section", element("h2", text_of(title)) + "".join(parts))


def figure(kind: str, content: str, caption: str = "") -> str:
    """A chart in its frame, ``wide`` or ``narrow``; nothing when there is none."""
    above = element("figcaption", text_of(caption)) if caption else ""
    return element("figure", above + content, class_=kind) if content else ""


def table(headings: Sequence[str], rows: Sequence[str], left: Collection[str] = ()) -> str:
    """A table of finished rows; the headings of columns of texts stand ``left``."""
    head = "".join(
        element("th", text_of(heading), class_="left" if heading in left else None)
        for heading in headings
    )
    return element("table", element("thead", element("tr", head)) + element("tbody", "".join(rows)))


def row(*cells: str) -> str:
    """A row of finished cells."""
    return element("tr", "".join(cells))


def cell(text: str, class_: str | None = None) -> str:
    """A cell that shows a text."""
    return element("td", text_of(text), class_=class_)


def checks_table(checks: Sequence[Check]) -> str:
    """Bars, and whether they hold."""
    rows = [
        row(
            cell(check.name, "wrap"),
            cell(number(check.value)),
            cell(number(check.limit)),
            cell(check.unit, "left"),
            cell("ok" if check.ok else "failed", "ok" if check.ok else "failed"),
        )
        for check in checks
    ]
    return table(("check", "value", "limit", "unit", ""), rows, left=("unit", ""))


def verdict(checks: Sequence[Check]) -> str:
    """One line about all checks; nothing when there are none."""
    if not checks:
        return ""
    failed = sum(not check.ok for check in checks)
    if failed:
        return f'<p class="failed">{failed} of {len(checks)} checks failed.</p>'
    return f'<p class="ok">All {len(checks)} checks hold.</p>'
