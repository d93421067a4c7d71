import math

import pytest

from endpoints.engines.exposition import Exposition, Sample, Scrape


def read(text: str, *names: str) -> Scrape:
    return Exposition(names).read(text.encode())


def test_reads_labels_and_value() -> None:
    scrape = read('m:a{model="x",engine="0"} 3.5\n', "m:a")
    assert scrape.samples == {"m:a": [Sample({"model": "x", "engine": "0"}, 3.5)]}
    assert scrape.malformed == 0


@pytest.mark.parametrize(
    ("line", "labels", "value"),
    [
        ("a 1", {}, 1.0),
        ("a\t1", {}, 1.0),
        ("a{} 2", {}, 2.0),
        ("a { } 2", {}, 2.0),
        ('a{x="1",} 2', {"x": "1"}, 2.0),
        ('a{x="1"}2', {"x": "1"}, 2.0),
        ('a{ x = "1" , y="2" } 2 ', {"x": "1", "y": "2"}, 2.0),
        ('a{x="} 7,\\"y"} -2e3', {"x": '} 7,"y'}, -2000.0),
        (r'a{x="back\\slash\nline \d"} 0', {"x": "back\\slash\nline \\d"}, 0.0),
        ("a 1 1395066363000", {}, 1.0),
        ("a 1 -3.5", {}, 1.0),
        ('a{x="é"} 1 # {trace_id="z"} 0.5 1.0', {"x": "é"}, 1.0),
        ("a 1\r", {}, 1.0),
        ("a +Inf", {}, math.inf),
        ("a -Inf", {}, -math.inf),
    ],
)
def test_reads_every_legal_form(line: str, labels: dict[str, str], value: float) -> None:
    assert read(f"{line}\n", "a").samples == {"a": [Sample(labels, value)]}


def test_reads_nan() -> None:
    assert math.isnan(read("a NaN", "a").samples["a"][0].value)


@pytest.mark.parametrize(
    "line",
    [
        "a",
        "a ",
        "a one",
        "a 1_000",
        "a{",
        'a{x="1} 2',
        "a{x=1} 2",
        'a{x="1" y="2"} 2',
        'a{x="1"} 2 3 4',
        "a{}",
    ],
)
def test_counts_unreadable_lines_of_wanted_metrics(line: str) -> None:
    scrape = read(f"{line}\na 5", "a")
    assert scrape.malformed == 1
    assert scrape.samples == {"a": [Sample({}, 5.0)]}


def test_names_match_exactly() -> None:
    page = 'ab{x="1"} 1\na_total 2\na:b 3\na 4\nba 5\n# HELP a 6\n# TYPE a gauge\nab nonsense here'
    scrape = read(page, "a")
    assert scrape.samples == {"a": [Sample({}, 4.0)]}
    assert scrape.malformed == 0


def test_a_hostile_line_is_refused() -> None:
    # Were the pattern to backtrack, this would run for many minutes.
    line = "a" + " \t" * 200_000 + "!"
    labels = 'a{x="' + "\\\\" * 200_000
    scrape = read(f"{line}\n{labels}\n", "a")
    assert scrape.malformed == 2
