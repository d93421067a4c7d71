import math

from endpoints.engines.exposition import Exposition
from endpoints.probes.restart import Lifetime, restart_sign


def lifetime(started: float | None = None, **counters: float) -> Lifetime:
    return Lifetime(started, counters)


def test_reads_the_marks() -> None:
    page = b'process_start_time_seconds 5.5\nc{engine="0"} 2\nc{engine="1"} 3\n'
    scrape = Exposition(["process_start_time_seconds", "c", "d"]).read(page)
    assert Lifetime.read(scrape, ["c", "d"]) == lifetime(5.5, c=5.0)


def test_a_start_time_that_is_no_number_is_not_told() -> None:
    scrape = Exposition(["process_start_time_seconds"]).read(b"process_start_time_seconds NaN")
    assert Lifetime.read(scrape, []) == lifetime()


def sign(before: Lifetime, after: Lifetime, *, was_refused: bool = False) -> str | None:
    return restart_sign(before, after, was_refused=was_refused)


def test_the_start_time_settles_it() -> None:
    assert sign(lifetime(1.0, c=5), lifetime(2.0, c=9)) == "its process start time changed"
    assert sign(lifetime(1.0, c=5), lifetime(1.0, c=2), was_refused=True) is None


def test_counters_that_went_backwards() -> None:
    assert sign(lifetime(c=5), lifetime(c=4)) == "its counter c went backwards"
    assert sign(lifetime(1.0, c=5), lifetime(c=4)) == "its counter c went backwards"
    assert sign(lifetime(c=5, d=1), lifetime(c=5, d=2)) is None
    assert sign(lifetime(c=5), lifetime(d=0)) is None
    assert sign(lifetime(c=math.nan), lifetime(c=0)) is None


def test_refused_in_between_without_a_proof_of_the_contrary() -> None:
    assert sign(lifetime(c=5), lifetime(c=6), was_refused=True) is not None
    assert sign(lifetime(), lifetime()) is None
