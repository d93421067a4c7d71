"""A receipt in words: why the endpoint was chosen, and what then happened."""

from gateway.admin.receipts import Candidate, ReceiptPage

_LONGEST = 200
_SAME_SECONDS = 0.0005


def why(page: ReceiptPage) -> str:
    """Why the first choice was the first, in one sentence."""
    first, others = page.candidates[0], page.candidates[1:]
    said = f"{printable(first.endpoint)} was ranked first by {page.policy} ({first.reason})"
    if not others:
        return f"{said}; it was the only candidate."
    if first.predicted_ttft is None:
        second = others[0]
        return f"{said}, before {printable(second.endpoint)} ({second.reason})."
    soonest = min(others, key=_expected)
    if soonest.predicted_ttft is None:
        return f"{said}; of the others no time was predicted."
    gap = soonest.predicted_ttft - first.predicted_ttft
    name = printable(soonest.endpoint)
    if abs(gap) < _SAME_SECONDS:
        return f"{said}; {name} was expected to start just as soon."
    if gap > 0.0:
        return f"{said}: {duration(gap)} sooner than {name}, the soonest of the others."
    return (
        f"{said}, although {name} was expected to start {duration(-gap)} sooner: "
        "what the choice costs requests that decode there counts, too."
    )


def what_happened(page: ReceiptPage) -> list[str]:
    """The request's life after the choice, one line for each thing that is known."""
    lines = [*_attempts(page), *_split(page), *_times(page), *_tokens(page)]
    return [*lines, *_judgement(page), _ending(page)]


def _split(page: ReceiptPage) -> list[str]:
    split = page.split
    if split is None:
        return []
    if split.prefill is None:
        return [f"it was not split: {split.reason.replace('_', ' ')}"]
    lines = [
        f"split ({split.reason.replace('_', ' ')}): {printable(split.prefill)} computes "
        f"{count(split.uncached_tokens)} tokens in {duration(split.seconds)}, "
        f"{count(split.transfer_tokens)} tokens move in {duration(split.transfer_seconds)}, "
        "as predicted"
    ]
    if split.why is not None:
        lines.append(f"the prefill leg was given up: {printable(split.why)}")
    elif split.observed_seconds is not None:
        line = f"the prefill took {duration(split.observed_seconds)}"
        if split.observed_transfer_seconds is not None:
            line += f", the transfer {duration(split.observed_transfer_seconds)}"
        lines.append(line)
    return lines


def _attempts(page: ReceiptPage) -> list[str]:
    lines = [
        f"attempt {number} at {printable(tried.endpoint)} failed {duration(tried.after)} after "
        f"routing: {printable(tried.reason)}" + (" (not even connected)" if tried.refused else "")
        for number, tried in enumerate(page.failed_attempts, 1)
    ]
    if page.retry_denied is not None:
        lines.append(f"it was not tried elsewhere: {page.retry_denied}")
    elif page.failed_attempts and page.endpoint != page.failed_attempts[-1].endpoint:
        lines.append(f"it was then sent to {printable(page.endpoint)}")
    return lines


def _times(page: ReceiptPage) -> list[str]:
    seen, lines = page.observed, []
    if seen.sent_after is not None:
        lines.append(
            f"sent to {printable(page.endpoint)} {duration(seen.sent_after)} after routing"
        )
    if seen.first_token_after is not None:
        line = f"first token {duration(seen.first_token_after)} after sending"
        if page.error.ttft is not None:
            line += f", predicted {duration(seen.first_token_after + page.error.ttft)}"
            line += _off(page.error.ttft, seen.first_token_after, "early", "late")
        if page.error.surprising:
            line += ": a surprise"
        lines.append(line)
    if seen.inter_token is not None:
        line = f"{duration(seen.inter_token)} between tokens"
        if page.error.itl is not None:
            line += f", predicted {duration(seen.inter_token + page.error.itl)}"
            line += _off(page.error.itl, seen.inter_token, "faster", "slower")
        lines.append(line)
    return lines


def _tokens(page: ReceiptPage) -> list[str]:
    seen, lines = page.observed, []
    if seen.prompt_tokens is not None:
        lines.append(
            f"{count(seen.prompt_tokens)} prompt tokens, {count(page.prompt_tokens)} expected"
        )
    if seen.cached_tokens is not None:
        line = f"{count(seen.cached_tokens)} of them cached"
        if page.error.cached_tokens is not None:
            line += f", {count(seen.cached_tokens + page.error.cached_tokens)} expected"
        lines.append(line)
    elif page.outcome == "done":
        lines.append("the engine did not report how many were cached")
    if seen.completion_tokens is not None:
        lines.append(
            f"{count(seen.completion_tokens)} tokens produced, {count(page.output_tokens)} expected"
        )
    return lines


def _judgement(page: ReceiptPage) -> list[str]:
    regret, against = page.error.regret, page.error.regret_against
    if regret is None or against is None:
        return []
    if regret == 0.0:
        return [f"no regret: it came no later than predicted for {printable(against)}"]
    return [
        f"estimated regret {duration(regret)}, against what was predicted for {printable(against)}"
    ]


def _ending(page: ReceiptPage) -> str:
    after = page.observed.finished_after
    when = "" if after is None else f" {duration(after)} after sending"
    if page.outcome == "done":
        return f"done{when}"
    if page.outcome == "failed":
        return f"failed{when}"
    if page.outcome == "abandoned":
        return f"the client left{when}"
    return f"still in flight ({page.phase}), {duration(page.age)} after routing"


def _off(error: float, observed: float, above: str, below: str) -> str:
    """By how much, relative to what was predicted, it came otherwise."""
    predicted = observed + error
    if predicted <= 0.0 or abs(error) < 0.005 * predicted:
        return ""
    return f", {abs(error) / predicted:.0%} {above if error > 0.0 else below}"


def _expected(candidate: Candidate) -> float:
    return float("inf") if candidate.predicted_ttft is None else candidate.predicted_ttft


def duration(seconds: float | None) -> str:
    """Seconds, in the unit that reads best."""
    if seconds is None:
        return "?"
    if abs(seconds) < 0.9995:
        digits = 1 if abs(seconds) < 0.01 else 0
        return f"{seconds * 1000:.{digits}f} ms"
    return f"{seconds:.2f} s" if abs(seconds) < 120.0 else f"{seconds / 60.0:,.0f} min"


def count(tokens: float | None) -> str:
    """A number of tokens."""
    return "-" if tokens is None else f"{tokens:,.0f}"


def printable(text: str | None) -> str:
    """Text that clients and servers choose, unable to drive a terminal."""
    if text is None:
        return "-"
    text = text[:_LONGEST]
    return text if text.isprintable() else ascii(text)[1:-1]
