"""The metric reader against prometheus_client's writer and parser, and against any bytes."""

import math

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from endpoints.engines import ENGINES, detect
from endpoints.engines.exposition import Exposition

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
series = st.dictionaries(st.tuples(texts, texts), st.floats(), max_size=5)


@given(series, st.dictionaries(texts, st.floats(0, 1e15), max_size=3))
def test_round_trip(
    gauge_series: dict[tuple[str, str], float], counter_series: dict[str, float]
) -> None:
    registry = CollectorRegistry()
    gauge = Gauge("x:gauge", 'help with "quotes"\nand lines', ["a", "b"], registry=registry)
    counter = Counter("x:counter", "help", ["c"], registry=registry)
    other = Gauge("x:gauge_other", "help", ["a", "b"], registry=registry)
    for labels, value in gauge_series.items():
        gauge.labels(*labels).set(value)
        other.labels(*labels).set(1)
    for label, value in counter_series.items():
        counter.labels(label).inc(value)

    scrape = Exposition(["x:gauge", "x:counter_total"]).read(generate_latest(registry))

    assert scrape.malformed == 0
    assert set(scrape.samples) <= {"x:gauge", "x:counter_total"}
    read = {(s.labels["a"], s.labels["b"]): s.value for s in scrape.samples.get("x:gauge", ())}
    assert read.keys() == gauge_series.keys()
    for labels, value in gauge_series.items():
        assert read[labels] == value or (math.isnan(read[labels]) and math.isnan(value))
    counted = {s.labels["c"]: s.value for s in scrape.samples.get("x:counter_total", ())}
    assert counted == counter_series


@given(series)
def test_agrees_with_the_official_parser(gauge_series: dict[tuple[str, str], float]) -> None:
    registry = CollectorRegistry()
    gauge = Gauge("g", "help", ["a", "b"], registry=registry)
    for labels, value in gauge_series.items():
        gauge.labels(*labels).set(value)
    page = generate_latest(registry)
    ours = [(s.labels, s.value) for s in Exposition(["g"]).read(page).samples.get("g", ())]
    theirs = [
        (sample.labels, sample.value)
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    ]
    assert repr(ours) == repr(theirs)


pieces = st.lists(
    st.one_of(
        st.binary(max_size=12),
        st.sampled_from(
            [b"\n", b" ", b"{", b"}", b'"', b"\\", b",", b"=", b"#", b"1", b"NaN", b"+Inf", b"\r"]
        ),
        st.sampled_from(
            sorted(
                name.encode()
                for engine in ENGINES.values()
                for name in engine.metrics | engine.counters
            )
        ),
        st.sampled_from([b'page_size="', b'block_size="', b'num_gpu_blocks="', b'max_lora="']),
    ),
    max_size=40,
)


@given(pieces)
def test_no_bytes_make_it_fail(parts: list[bytes]) -> None:
    page = b"".join(parts)
    detect(metrics=page)
    for engine in ENGINES.values():
        scrape = engine.exposition.read(page)
        assert set(scrape.samples) <= engine.metrics | engine.counters
        if engine.read is not None:
            load = engine.read(scrape, 0.0)
            for value in (load.running, load.waiting, load.kv_usage, load.cache_tokens):
                assert value is None or math.isfinite(value)
