import math

from endpoints.engines.combine import label_numbers, mean, total, where, whole
from endpoints.engines.exposition import Sample, Scrape


def scrape(*samples: tuple[dict[str, str], float], name: str = "m") -> Scrape:
    return Scrape({name: [Sample(labels, value) for labels, value in samples]})


def test_counts_add_up_and_shares_are_averaged() -> None:
    ranks = scrape(({"engine": "0"}, 2.0), ({"engine": "1"}, 4.0))
    assert total(ranks, "m") == 6.0
    assert mean(ranks, "m") == 3.0


def test_absent_is_none_and_zero_is_zero() -> None:
    assert total(Scrape({}), "m") is None
    assert mean(Scrape({}), "m") is None
    assert total(scrape(({}, 0.0)), "m") == 0.0


def test_values_that_are_not_finite_are_not_reported() -> None:
    assert total(scrape(({}, math.nan)), "m") is None
    assert mean(scrape(({"r": "0"}, math.inf), ({"r": "1"}, 0.5)), "m") == 0.5


def test_the_first_present_name_wins() -> None:
    both = Scrape({"new": [Sample({}, 1.0)], "old": [Sample({}, 9.0)]})
    assert total(both, "new", "old") == 1.0
    assert total(scrape(({}, 9.0), name="old"), "new", "old") == 9.0


def test_mirrored_ranks_count_once() -> None:
    ranks = scrape(
        ({"tp_rank": "0", "dp_rank": "0"}, 3.0),
        ({"tp_rank": "1", "dp_rank": "0"}, 2.0),
        ({"tp_rank": "0", "dp_rank": "1"}, 5.0),
    )
    mirrors = frozenset({"tp_rank"})
    assert total(ranks, "m", mirrors=mirrors) == 8.0
    assert mean(ranks, "m", mirrors=mirrors) == 4.0


def test_sizes_are_positive_whole_numbers() -> None:
    assert whole(16.0) == 16
    assert whole(0.0) is None
    assert whole(None) is None
    samples = [Sample({"n": text}, 1.0) for text in ("12", "None", "-1", "0", "", "9" * 5000, "٣")]
    assert label_numbers([*samples, Sample({}, 1.0)], "n") == [12]


def test_where_keeps_the_series_with_these_labels() -> None:
    kinds = scrape(({"kind": "a", "v": "1"}, 1.0), ({"kind": "b", "v": "1"}, 2.0))
    assert total(where(kinds, "m", kind="b"), "m") == 2.0
    assert total(where(kinds, "m", kind="c"), "m") is None
