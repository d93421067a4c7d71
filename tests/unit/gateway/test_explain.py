"""Receipts in words and tables, and the command's errors."""

from collections.abc import Sequence
from io import StringIO

import pytest
import typer
from rich.console import Console, RenderableType
from typer.testing import CliRunner

from gateway.admin.receipts import ReceiptPage, receipt_page
from gateway.explain import rendering
from gateway.explain.command import explain
from gateway.explain.wording import count, duration, printable, what_happened, why
from routing.decision import Decision, Phase
from routing.prefix.views import ViewTokens
from routing.receipts import Receipts
from tests.support.receipts import answered, decided, failed, retried


def page_of(decision: Decision, receipts: Receipts | None = None, now: float = 10.0) -> ReceiptPage:
    """The page of a decision that went as it went."""
    receipts = receipts or Receipts(4)
    receipts.routed(decision, decision.at)
    if decision.outcome is not None:
        receipts.observe(decision)
    return receipt_page(receipts.latest()[0], receipts, now)


def done(ttfts: Sequence[float | None] = (0.5, 0.7), ttft: float = 0.6) -> Decision:
    decision = decided("the-id", 1.0, ttfts)
    answered(decision, ttft, seconds=1.0, tokens=11)
    return decision


def shown(what: RenderableType) -> str:
    console = Console(file=StringIO(), width=160, color_system=None)
    console.print(what)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_why_compares_with_the_soonest_of_the_others() -> None:
    assert why(page_of(done((0.5, 0.9, 0.7)))) == (
        "e0 was ranked first by test (number 0): 200 ms sooner than e2, the soonest of the others."
    )
    assert "although e1 was expected to start 100 ms sooner" in why(page_of(done((0.5, 0.4))))
    assert why(page_of(done((0.5, 0.5)))).endswith("; e1 was expected to start just as soon.")
    assert why(page_of(done((0.5,)))).endswith("it was the only candidate.")
    assert why(page_of(done((None, None)))) == (
        "e0 was ranked first by test (number 0), before e1 (number 1)."
    )
    assert why(page_of(done((0.5, None)))).endswith("of the others no time was predicted.")


def test_what_happened_holds_predictions_against_observations() -> None:
    decision = done((0.5, 0.55), ttft=0.6)
    decision.reported_prompt_tokens = 1_010
    decision.reported_cached_tokens = 90
    story = what_happened(page_of(decision))
    assert story[0] == "sent to e0 0.0 ms after routing"
    assert story[1] == "first token 600 ms after sending, predicted 500 ms, 20% late"
    assert story[2].startswith("100 ms between tokens, predicted ")
    assert story[2].endswith("slower")
    assert story[3:] == [
        "1,010 prompt tokens, 1,000 expected",
        "90 of them cached, 100 expected",
        "11 tokens produced, 20 expected",
        "estimated regret 50 ms, against what was predicted for e1",
        "done 1.60 s after sending",
    ]


def test_what_happened_tells_of_early_and_surprising_tokens() -> None:
    assert what_happened(page_of(done((2.0, 3.0), ttft=0.5)))[1] == (
        "first token 500 ms after sending, predicted 2.00 s, 75% early: a surprise"
    )
    assert "no regret: it came no later than predicted for e1" in what_happened(page_of(done()))


def test_what_happened_tells_of_attempts() -> None:
    decision = decided("r", 1.0)
    failed(decision, "connect_failed", after=0.25)
    retried(decision)
    answered(decision)
    story = what_happened(page_of(decision))
    assert story[:2] == [
        "attempt 1 at e0 failed 250 ms after routing: connect_failed",
        "it was then sent to e1",
    ]
    denied = decided("r", 1.0)
    failed(denied)
    denied.retry_denied = "the retry budget is spent"
    story = what_happened(page_of(denied))
    assert story[1] == "it was not tried elsewhere: the retry budget is spent"
    assert story[-1] == "failed"


def test_what_happened_tells_what_is_not_over_and_who_left() -> None:
    assert what_happened(page_of(decided("r", 1.0))) == [
        "still in flight (routed), 9.00 s after routing"
    ]
    left = decided("r", 1.0)
    left.sent_at, left.finished_at = 1.0, 4.0
    left.enter(Phase.ABANDONED)
    assert what_happened(page_of(left))[-1] == "the client left 3.00 s after sending"


def test_a_receipt_shows_every_candidate_with_its_numbers() -> None:
    decision = done((0.5, 0.7, None))
    text = shown(rendering.receipt(page_of(decision)))
    assert "the-id  m, streamed, 9.00 s ago, done" in text
    rows = [line.split() for line in text.splitlines() if " e0" in line[:6] or " e1" in line[:6]]
    itl = duration(decision.endpoint.timing.inter_token_seconds(1.0, 1_000.0)).split()
    assert rows[0] == ["1", "e0", "*", "0.000", "100", "100%", "0", "0", "0", "500", "ms", *itl]
    assert rows[1][:4] == ["2", "e1", "1.000", "100"]
    assert "exact" not in text
    assert "Why: e0 was ranked first" in text
    assert "- done 1.60 s after sending" in text


def test_a_receipt_shows_what_each_view_said_if_any_did() -> None:
    decision = done()
    decision.views = [ViewTokens(512, 768, 0, 640.0), ViewTokens(None, None, 64, 32.0)]
    rows = shown(rendering.receipt(page_of(decision))).splitlines()
    assert next(row for row in rows if " e0 *" in row).split()[5:9] == ["512", "256", "0", "640"]
    assert next(row for row in rows if " e1 " in row[:6]).split()[4:8] == ["-", "-", "64", "32"]


def test_the_latest_are_one_a_row() -> None:
    receipts = Receipts(4)
    moved = decided("moved", 2.0)
    receipts.routed(moved, 2.0)
    failed(moved)
    retried(moved)
    answered(moved)
    receipts.observe(moved)
    pages = [
        page_of(decided("waits", 1.0)),
        receipt_page(receipts.latest()[0], receipts, 10.0),
        page_of(done((2.0, 3.0))),
    ]
    lines = [line.rstrip() for line in shown(rendering.latest(pages)).splitlines()]
    assert lines[0].split()[0] == "request"
    assert lines[1].split() == [
        *("waits", "9.00", "s", "m", "e0", "1,000", "(100)", "-", "500", "ms", "-", "in", "flight")
    ]
    assert lines[2].endswith("done, 1 failed")
    assert lines[2].split()[4:11] == ["e1", "1,000", "(100)", "500", "ms", "600", "ms"]
    assert lines[3].split()[-2:] == ["done,", "surprising"]
    assert shown(rendering.latest([])) == "no decision matches\n"


def test_text_of_others_can_not_drive_the_terminal() -> None:
    decision = decided("\x1b[2J[red]id\n", 1.0)
    for what in (rendering.receipt(page_of(decision)), rendering.latest([page_of(decision)])):
        text = shown(what)
        assert "\x1b" not in text
        assert "\\x1b[2J[red]id\\n" in text
    assert printable("x" * 500) == "x" * 200
    assert printable(None) == "-"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "?"),
        (0.0, "0.0 ms"),
        (0.0042, "4.2 ms"),
        (0.25, "250 ms"),
        (0.9996, "1.00 s"),
        (119.0, "119.00 s"),
        (600.0, "10 min"),
    ],
)
def test_durations_read_well(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_counts_read_well() -> None:
    assert (count(None), count(12_345.4)) == ("-", "12,345")


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.command()(explain)
    return app


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--admin", "gateway:9090"], "'gateway:9090' is no address: give one such as http://"),
        (["--admin", "http://[::1"], "can't reach the admin server at http://[::1"),
        (["--admin", "http://127.0.0.1:1"], "can't reach the admin server at http://127.0.0.1:1"),
        (["an-id", "--outcome", "done"], "a request id stands alone"),
    ],
)
def test_what_can_not_be_asked_is_an_error_that_helps(
    app: typer.Typer, arguments: list[str], said: str
) -> None:
    ran = CliRunner().invoke(app, arguments)
    assert ran.exit_code == 2
    assert said in ran.stderr
    assert ran.stdout == ""
