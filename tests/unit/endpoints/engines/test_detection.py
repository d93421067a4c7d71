import pytest

from endpoints.engines import ENGINES, detect, engine_named
from routing.fleet import Load


@pytest.mark.parametrize(
    ("page", "name"),
    [
        (b"# HELP x\nvllm:num_requests_running 1\n", "vllm"),
        (b'sglang:token_usage{model_name="vllm:x"} 1\n', "sglang"),
        (b"llamacpp:requests_processing 0", "llamacpp"),
        (b"up 1\ntrtllm_num_requests_running 0", "trtllm"),
        (b'nv_trt_llm_request_metrics{request_type="waiting"} 0', "trtllm"),
    ],
)
def test_by_metric_names(page: bytes, name: str) -> None:
    assert detect(metrics=page) is ENGINES[name]


@pytest.mark.parametrize(
    "page", [b"", b"[]", b"process_start_time_seconds 1\n", b"# vllm:x 1\n", b"\xff\x00"]
)
def test_other_metrics_show_no_engine(page: bytes) -> None:
    assert detect(metrics=page) is None


@pytest.mark.parametrize("name", ["vllm", "sglang", "llamacpp"])
def test_by_owner(name: str) -> None:
    assert detect(owner=name) is ENGINES[name]


def test_trtllm_by_its_owner_name() -> None:
    assert detect(owner="tensorrt_llm") is ENGINES["trtllm"]
    assert detect(owner="organization-owner") is None


@pytest.mark.parametrize(
    ("path", "page", "name"),
    [
        ("/version", {"version": "0.11.0"}, "vllm"),
        ("/get_model_info", {"model_path": "m", "is_generation": True, "x": 1}, "sglang"),
        ("/props", {"total_slots": 1, "default_generation_settings": {}, "x": 1}, "llamacpp"),
    ],
)
def test_by_facts(path: str, page: dict[str, object], name: str) -> None:
    assert detect(facts={path: page}) is ENGINES[name]


def test_other_facts_show_no_engine() -> None:
    assert detect(facts={"/version": {"version": "1", "name": "other"}}) is None
    assert detect(facts={"/version": "1", "/props": {"total_slots": 1}}) is None
    assert detect() is None


def test_metric_names_are_the_surest_sign() -> None:
    assert detect(metrics=b"sglang:token_usage 0", owner="vllm") is ENGINES["sglang"]


def test_unknown_names_get_a_hint() -> None:
    assert engine_named("vllm") is ENGINES["vllm"]
    with pytest.raises(ValueError, match="did you mean 'sglang'"):
        engine_named("sg-lang")
    with pytest.raises(ValueError, match="known: vllm"):
        engine_named("zzz")


def test_every_engine_is_whole() -> None:
    for name, engine in ENGINES.items():
        assert engine.name == name
        paths = (*engine.health_paths, *engine.metrics_paths)
        assert paths
        assert all(path.startswith("/") for path in paths)
        if engine.read is not None:
            assert engine.read(engine.exposition.read(b""), 1.0) == Load(at=1.0)
            names = engine.metrics | engine.counters
            assert all(metric.startswith(engine.metric_prefixes) for metric in names)
            assert engine.metrics_hint
