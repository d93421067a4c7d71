"""The page and the tables: complete, well formed, self-contained, and nobody's text is markup."""

from html.parser import HTMLParser
from random import Random

import pytest
from rich.console import Console

from bench.replay.checks import CLAIRVOYANT, checks
from bench.replay.report.charts import styles
from bench.replay.report.columns import by_setting
from bench.replay.report.page import page
from bench.replay.report.tables import table
from bench.replay.suite import Load, Run, recorded
from bench.replay.summary import CURVE_POINTS, Figures, Moment, Played, medians
from bench.report.svg import Scale, element, text_of
from bench.results import results

EVIL = "<script>alert('x')</script>&\""
VOID = {"meta"}


def played(load: Load, policy: str, *, events: bool = True, fault: str | None = None) -> Played:
    dice = Random(f"{load.name}{policy}{events}{fault}")
    curve = sorted(dice.lognormvariate(-0.5, 1.2) for _ in CURVE_POINTS)
    figures = Figures(
        requests=1000,
        completion=1.0,
        ttft_mean=curve[50],
        ttft_p50=curve[50],
        ttft_p90=curve[90],
        ttft_p99=curve[99],
        tpot_p50=0.02,
        tpot_p90=0.03,
        tpot_p99=0.04,
        goodput=dice.random(),
        hit_ratio=dice.random() / 2,
        longest_wait=curve[-1],
        request_spread=0.1,
        prefill_spread=0.2,
        ttft_error=None,
        predicted_hit_ratio=0.3,
        cached_error=0.01,
        decision_us=80.0,
        wall_seconds=3.0,
    )
    moments = tuple(
        Moment(float(at), 10 * dice.random(), 20.0, 30 + 10 * dice.random()) for at in range(80)
    )
    run = Run(load, policy, 0, events, fault)
    return Played(run, figures, tuple(curve), moments)


LOADS = [recorded("sample", 8, speed) for speed in (1.0, 1.5)]
POLICIES = ["predicted_time", "round_robin", "least_request", EVIL, "power_of_two", CLAIRVOYANT]
PLAYED = [
    *(played(load, policy) for load in LOADS for policy in POLICIES),
    *(played(LOADS[0], policy, events=False) for policy in POLICIES),
    *(played(LOADS[0], policy, fault="one endpoint slow") for policy in POLICIES),
]


class Reader(HTMLParser):
    """Fails on tags that don't match, and collects what matters."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.counts: dict[str, int] = {}
        self.attributes: list[tuple[str, str | None]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.counts[tag] = self.counts.get(tag, 0) + 1
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "script" not in self.open and "style" not in self.open:
            self.text.append(data)


@pytest.fixture(scope="module")
def html() -> str:
    figures = medians(PLAYED)
    found = results(
        "replay",
        parameters={"loads": ["sample"], "seeds": [0]},
        rounds=[],
        medians=[],
        checks=checks(LOADS, figures, LOADS[0]),
        notes=[EVIL],
    )
    return page(found, PLAYED, figures, LOADS)


@pytest.fixture(scope="module")
def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    return reader


def test_the_page_is_well_formed_and_shows_everything(read: Reader) -> None:
    assert read.open == []
    text = " ".join(read.text)
    for words in (
        *("sample 8w x1", "sample 8w x1.5", "sample 8w x1, no cache events", "predicted_time"),
        *("Goodput against load", "Under faults", "one endpoint slow", "undisturbed", "Parameters"),
        *("time to first token (s)", "clairvoyant (exact state)", "checks"),
    ):
        assert words in text
    # a curve and bars a setting, a balance a policy and setting, one chart of goodput
    assert read.counts["svg"] == 3 * 2 + 3 * len(POLICIES) + 1
    assert read.counts["table"] == 1 + 3 + 1


def test_nothing_comes_from_elsewhere(html: str, read: Reader) -> None:
    assert read.counts["script"] == read.counts["style"] == 1
    names = {name for name, _ in read.attributes}
    assert not names & {"src", "href", "srcset", "action"}
    assert not any(name.startswith("on") for name in names)
    for word in ("http://", "https://", "url(", "@import"):
        assert word not in html


def test_text_of_others_stays_text(html: str, read: Reader) -> None:
    assert "<script>alert" not in html
    assert EVIL in "".join(read.text)
    assert EVIL in {value for name, value in read.attributes if name == "data-policy"}


def test_numbers_are_drawn_within_the_picture(read: Reader) -> None:
    for name, value in read.attributes:
        if name in {"x", "y", "x1", "y1", "cx", "cy", "width", "height"} and value is not None:
            assert -1 <= float(value) <= 700


def test_a_run_that_failed_is_told() -> None:
    run = Run(LOADS[0], "round_robin", 0, events=True)
    some = [Played(run, None, failure="it <broke>"), played(LOADS[0], "predicted_time")]
    found = results("replay", parameters={}, rounds=[], medians=[], checks=[])
    html = page(found, some, medians(some), LOADS[:1])
    assert "it &lt;broke&gt;" in html
    Reader().feed(html)


def test_the_table_has_a_row_a_policy_best_first() -> None:
    settings = by_setting(medians(PLAYED))
    assert len(settings) == 4
    setting, rows = next(iter(settings.items()))
    console = Console(width=200, record=True, file=None)
    with console.capture() as captured:
        console.print(table(setting, rows))
    text = captured.get()
    assert "sample 8w x1, 1 seed" in text and "TTFT error" not in text
    places = [text.index(one.policy) for one in rows]
    assert places == sorted(places)
    values = [one.values["ttft_p90"] or 0.0 for one in rows]
    assert values == sorted(values)


def test_ours_and_the_clairvoyant_keep_their_colours_and_few_rivals_have_one() -> None:
    found = styles(["a", CLAIRVOYANT, "b", "predicted_time", "c", "d", "e"])
    assert found["predicted_time"] == "ours" and found[CLAIRVOYANT] == "exact"
    assert [found[name] for name in "abcde"] == ["rival1", "rival2", "rival3", "other", "other"]


@pytest.mark.parametrize(
    ("scale", "ticks"),
    [
        (Scale(0.0, 1.0, 0, 100), [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (Scale(0.0, 37.0, 0, 100), [0.0, 10.0, 20.0, 30.0]),
        (Scale(0.3, 30.0, 0, 100, logarithmic=True), [0.5, 1.0, 2.0, 5.0, 10.0, 20.0]),
        (Scale(0.01, 200.0, 0, 100, logarithmic=True), [0.01, 0.1, 1.0, 10.0, 100.0]),
        (Scale(5.0, 5.0, 0, 100), [5.0]),
    ],
)
def test_ticks_are_round(scale: Scale, ticks: list[float]) -> None:
    assert scale.ticks() == pytest.approx(ticks)


def test_a_scale_keeps_what_is_outside_at_its_edge() -> None:
    scale = Scale(1.0, 100.0, 10.0, 30.0, logarithmic=True)
    assert [scale(value) for value in (0.1, 1.0, 10.0, 1e6)] == pytest.approx([10, 10, 20, 30])


def test_attributes_and_text_are_escaped() -> None:
    assert element("a", text_of("<&>"), class_='x"y', data_one="<") == (
        '<a class="x&quot;y" data-one="&lt;">&lt;&amp;&gt;</a>'
    )
