"""Receipts as tables and text for a terminal."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gateway.admin.receipts import Candidate, ReceiptPage
from gateway.explain.wording import count, duration, printable, what_happened, why

_OUTCOME_STYLE = {"done": "green", "failed": "red", "abandoned": "yellow"}


def latest(pages: Sequence[ReceiptPage]) -> RenderableType:
    """Decisions, one a row."""
    if not pages:
        return Text("no decision matches")
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading, justify in (
        ("request", "left"),
        ("age", "right"),
        ("model", "left"),
        ("endpoint", "left"),
        ("prompt", "right"),
        ("cached", "right"),
        ("ttft", "right"),
        ("predicted", "right"),
        ("regret", "right"),
        ("outcome", "left"),
    ):
        table.add_column(heading, justify="right" if justify == "right" else "left")
    for page in pages:
        table.add_row(*_row(page))
    return table


def _row(page: ReceiptPage) -> list[Text]:
    seen = page.observed
    here = next(each for each in page.candidates if each.endpoint == page.endpoint)
    outcome = _outcome(page)
    if page.failed_attempts:
        outcome.append(f", {len(page.failed_attempts)} failed", "red")
    if page.error.surprising:
        outcome.append(", surprising", "magenta")
    return [
        Text(printable(page.id)),
        Text(duration(page.age)),
        Text(printable(page.model)),
        Text(printable(page.endpoint)),
        Text(count(page.prompt_tokens if seen.prompt_tokens is None else seen.prompt_tokens)),
        Text(
            _expected_tokens(here.cached_tokens)
            if seen.cached_tokens is None
            else count(seen.cached_tokens)
        ),
        Text(_known(seen.first_token_after)),
        Text(_known(here.predicted_ttft)),
        Text(_known(page.error.regret)),
        outcome,
    ]


def receipt(page: ReceiptPage) -> RenderableType:
    """One decision: its candidates, why, and what came of it."""
    head = Text.assemble(
        (printable(page.id), "bold"),
        f"  {printable(page.model)}, {'streamed' if page.streamed else 'not streamed'}, "
        f"{duration(page.age)} ago, ",
        _outcome(page),
    )
    asked = f"{count(page.prompt_tokens)} prompt tokens, {count(page.output_tokens)} more expected"
    for name, target in (("first token", page.ttft_target), ("each further", page.itl_target)):
        if target is not None:
            asked += f", {name} wanted within {duration(target)}"
    story = [Text(f"  - {line}") for line in what_happened(page)]
    return Group(
        head,
        Text(asked),
        Text(),
        _candidates(page),
        Text(),
        Text.assemble(("Why: ", "bold"), why(page)),
        Text("Then:", "bold"),
        *story,
    )


def _candidates(page: ReceiptPage) -> Table:
    """The ranking: what was known of each, and what was predicted."""
    viewed = any(candidate.views is not None for candidate in page.candidates)
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("")
    table.add_column("candidate")
    headings = ["score", "cached"]
    if viewed:
        headings += ["exact", "lower tiers", "just routed", "routed"]
    headings += ["trust", "queued", "requests", "decoding", "ttft", "itl"]
    for heading in headings:
        table.add_column(heading, justify="right")
    for rank, candidate in enumerate(page.candidates, 1):
        chosen = candidate.endpoint == page.endpoint
        table.add_row(
            f"{rank}",
            Text(printable(candidate.endpoint) + (" *" if chosen else "")),
            *_numbers(candidate, viewed=viewed),
            style="bold" if chosen else None,
        )
    return table


def _numbers(candidate: Candidate, *, viewed: bool) -> list[str]:
    cells = [f"{candidate.score:.3f}", count(candidate.cached_tokens)]
    if viewed:
        views = candidate.views
        if views is None:
            cells += ["-"] * 4
        else:
            below = None
            if views.reachable is not None and views.exact is not None:
                below = views.reachable - views.exact
            cells += map(count, (views.exact, below, views.predicted, views.approximate))
    return [
        *cells,
        "-" if candidate.trust is None else f"{candidate.trust:.0%}",
        count(candidate.queued_tokens),
        count(candidate.requests),
        count(candidate.decoding),
        _known(candidate.predicted_ttft),
        _known(candidate.predicted_itl),
    ]


def _outcome(page: ReceiptPage) -> Text:
    outcome = page.outcome or "in flight"
    return Text(outcome, _OUTCOME_STYLE.get(outcome, ""))


def _expected_tokens(tokens: float) -> str:
    return f"({count(tokens)})"


def _known(seconds: float | None) -> str:
    return "-" if seconds is None else duration(seconds)
