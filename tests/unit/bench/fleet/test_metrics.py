"""The engine's numbers under vLLM's names."""

from collections.abc import Sequence

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from bench.fleet.engine.output import Output
from bench.fleet.engine.scheduler import Engine
from bench.fleet.engine.sequence import Sequence as TokenSequence
from bench.fleet.engine.tokens import tokens_of
from bench.fleet.metrics import registry_of
from bench.fleet.models import Models
from bench.fleet.settings import ServerSettings

SETTINGS = ServerSettings(model="m", block_size=4, cache_tokens=64, max_loras=2)


def scrape(engine: Engine, adapters: Sequence[str] = ()) -> dict[str, dict[str, float]]:
    """Samples by name and by the labels besides model and engine."""
    text = generate_latest(registry_of(engine, Models("m", adapters, 64), SETTINGS)).decode()
    samples: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            rest = {k: v for k, v in sample.labels.items() if k not in ("model_name", "engine")}
            samples.setdefault(sample.name, {})[",".join(rest.values())] = sample.value
    return samples


def submit(engine: Engine, first: int, model: str = "m") -> None:
    tokens = tokens_of(range(first, first + 8))
    output = Output((1,), 4, "length")
    engine.submit(
        TokenSequence(tokens, output, model, adapter=model != "m", arrival=0.0, block_size=4)
    )


def test_gauges_tell_the_present() -> None:
    engine = Engine(SETTINGS)
    submit(engine, 0)
    submit(engine, 100)
    assert scrape(engine)["vllm:num_requests_waiting"] == {"": 2}
    engine.start(0.0)
    samples = scrape(engine)
    assert samples["vllm:num_requests_waiting"] == {"": 0}
    assert samples["vllm:num_requests_running"] == {"": 2}
    assert samples["vllm:kv_cache_usage_perc"] == {"": 4 / 16}


def test_counters_and_histograms_tell_the_past() -> None:
    engine = Engine(SETTINGS)
    now = 0.0
    for _ in range(2):
        submit(engine, 0)
        while engine.busy:
            step = engine.start(now)
            now += step.seconds
            engine.complete(step, now)
    samples = scrape(engine)
    assert samples["vllm:prompt_tokens_total"] == {"": 16}
    assert samples["vllm:generation_tokens_total"] == {"": 8}
    assert samples["vllm:prefix_cache_queries_total"] == {"": 16}
    assert samples["vllm:prefix_cache_hits_total"] == {"": 4}
    assert samples["vllm:request_success_total"] == {"stop": 0, "length": 2, "abort": 0}
    assert samples["vllm:time_to_first_token_seconds_count"] == {"": 2}
    buckets = samples["vllm:inter_token_latency_seconds_bucket"]
    assert (buckets["0.01"], buckets["0.025"], buckets["+Inf"]) == (0, 6, 6)
    assert samples["vllm:kv_cache_usage_perc"] == {"": 0}


def test_the_configuration_of_the_cache_is_told() -> None:
    text = generate_latest(registry_of(Engine(SETTINGS), Models("m", (), 64), SETTINGS)).decode()
    (family,) = (
        family
        for family in text_string_to_metric_families(text)
        if family.name == "vllm:cache_config_info"
    )
    labels = family.samples[0].labels
    assert (labels["block_size"], labels["num_gpu_blocks"]) == ("4", "16")


def test_adapters_are_told_once_there_are_any() -> None:
    engine = Engine(SETTINGS)
    assert "vllm:lora_requests_info" not in scrape(engine)
    for index, model in enumerate(("b", "a", "c", "m")):
        submit(engine, 100 * index, model)
    engine.start(0.0)
    assert list(scrape(engine, ("a", "b", "c"))["vllm:lora_requests_info"]) == ["2,a,b,c"]
