from endpoints.engines import ENGINES, CacheShape, Engine
from endpoints.engines.llamacpp import LLAMACPP, cache_shape
from endpoints.engines.sglang import SGLANG
from endpoints.engines.trtllm import TRTLLM
from endpoints.engines.vllm import VLLM
from routing.fleet import Load


def load(engine: Engine, page: str) -> Load:
    assert engine.read is not None
    return engine.read(engine.exposition.read(page.encode()), 7.0)


class TestVllm:
    def test_current_names(self) -> None:
        page = """
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 3.0
vllm:num_requests_waiting{engine="0",model_name="m"} 2.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="m",reason="capacity"} 1.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
vllm:prefix_cache_queries_total{engine="0",model_name="m"} 1000.0
vllm:prefix_cache_hits_total{engine="0",model_name="m"} 400.0
vllm:prefix_cache_hits_created{engine="0",model_name="m"} 1.7e+09
vllm:external_prefix_cache_hits_total{engine="0",model_name="m"} 77.0
vllm:num_preemptions_total{engine="0",model_name="m"} 5.0
vllm:cache_config_info{block_size="16",num_gpu_blocks="4096",cache_dtype="auto",engine="0"} 1.0
"""
        assert load(VLLM, page) == Load(
            at=7.0,
            running=3.0,
            waiting=2.0,
            kv_usage=0.25,
            cache_block_tokens=16,
            cache_blocks=4096,
            prefix_queried_tokens=1000.0,
            prefix_hit_tokens=400.0,
            preemptions=5.0,
        )

    def test_old_names(self) -> None:
        page = """
vllm:gpu_cache_usage_perc{model_name="m"} 0.5
vllm:gpu_prefix_cache_queries_total{model_name="m"} 10
vllm:gpu_prefix_cache_hits_total{model_name="m"} 4
"""
        read = load(VLLM, page)
        assert (read.kv_usage, read.prefix_queried_tokens, read.prefix_hit_tokens) == (0.5, 10, 4)

    def test_data_parallel_ranks(self) -> None:
        page = """
vllm:num_requests_running{engine="0"} 3
vllm:num_requests_running{engine="1"} 5
vllm:kv_cache_usage_perc{engine="0"} 0.2
vllm:kv_cache_usage_perc{engine="1"} 0.6
vllm:cache_config_info{block_size="16",num_gpu_blocks="100",engine="0"} 1
vllm:cache_config_info{block_size="16",num_gpu_blocks="100",engine="1"} 1
"""
        read = load(VLLM, page)
        assert (read.running, read.kv_usage, read.cache_tokens) == (8, 0.4, 3200)

    def test_newest_adapters_win(self) -> None:
        name = "vllm:lora_requests_info"
        page = f"""
{name}{{max_lora="4",running_lora_adapters="old",waiting_lora_adapters=""}} 1.7e9
{name}{{max_lora="4",running_lora_adapters="a,b",waiting_lora_adapters="c"}} 1.8e9
"""
        read = load(VLLM, page)
        assert read.adapters_running == {"a", "b"}
        assert read.adapters_waiting == {"c"}
        assert read.max_adapters == 4

    def test_an_unknown_number_of_blocks_stays_unknown(self) -> None:
        page = 'vllm:cache_config_info{block_size="16",num_gpu_blocks="None"} 1'
        assert load(VLLM, page).cache_tokens is None

    def test_what_is_not_told_is_none(self) -> None:
        assert load(VLLM, "vllm:num_requests_running 0") == Load(at=7.0, running=0.0)


class TestSglang:
    def test_names_and_labelled_pages(self) -> None:
        page = """
sglang:num_running_reqs{model_name="m",tp_rank="0",pp_rank="0"} 4
sglang:num_queue_reqs{model_name="m",tp_rank="0",pp_rank="0"} 1
sglang:token_usage{model_name="m",tp_rank="0",pp_rank="0"} 0.28
sglang:max_total_num_tokens{model_name="m",tp_rank="0",pp_rank="0"} 64000
sglang:cache_config_info{page_size="64",num_pages="1000"} 1
sglang:prompt_tokens_total{model_name="m"} 900
sglang:cached_tokens_total{model_name="m",cache_source="device"} 300
sglang:cached_tokens_total{model_name="m",cache_source="host"} 100
"""
        assert load(SGLANG, page) == Load(
            at=7.0,
            running=4,
            waiting=1,
            kv_usage=0.28,
            cache_block_tokens=64,
            cache_blocks=1000,
            prefix_queried_tokens=900,
            prefix_hit_tokens=400,
        )

    def test_tensor_ranks_count_once_and_data_ranks_add_up(self) -> None:
        page = """
sglang:num_running_reqs{dp_rank="0",tp_rank="0"} 4
sglang:num_running_reqs{dp_rank="0",tp_rank="1"} 4
sglang:num_running_reqs{dp_rank="1",tp_rank="2"} 3
sglang:token_usage{dp_rank="0",tp_rank="0"} 0.2
sglang:token_usage{dp_rank="0",tp_rank="1"} 0.2
sglang:token_usage{dp_rank="1",tp_rank="2"} 0.8
"""
        read = load(SGLANG, page)
        assert (read.running, read.kv_usage) == (7, 0.5)

    def test_every_way_to_tell_the_cache_size(self) -> None:
        gauges = "sglang:page_size 32\nsglang:num_pages 10\n"
        tokens = "sglang:max_total_num_tokens 500\n"
        labels = 'sglang:cache_config_info{page_size="16",num_pages="20"} 1\n'
        for page, shape in [
            (gauges + labels, (32, 10)),
            (labels, (16, 20)),
            (labels + tokens, (16, 31)),
            (tokens, (1, 500)),
            ("", (None, None)),
        ]:
            read = load(SGLANG, page)
            assert (read.cache_block_tokens, read.cache_blocks) == shape


class TestLlamacpp:
    def test_names(self) -> None:
        page = "llamacpp:requests_processing 2\nllamacpp:requests_deferred 5\n"
        assert load(LLAMACPP, page) == Load(at=7.0, running=2, waiting=5)

    def test_old_builds_tell_the_usage(self) -> None:
        assert load(LLAMACPP, "llamacpp:kv_cache_usage_ratio 0.4").kv_usage == 0.4

    def test_the_cache_is_slots_times_context(self) -> None:
        props = {"total_slots": 4, "default_generation_settings": {"n_ctx": 8192}}
        assert cache_shape(props) == CacheShape(1, 32768)
        assert cache_shape({"total_slots": 4}) is None
        assert cache_shape({"total_slots": "4", "default_generation_settings": 3}) is None


class TestTrtllm:
    def test_serve(self) -> None:
        page = """
trtllm_num_requests_running{model_name="m"} 6
trtllm_num_requests_waiting{model_name="m"} 2
trtllm_kv_cache_utilization{model_name="m"} 0.75
trtllm_kv_cache_tokens_per_block{model_name="m"} 32
trtllm_kv_cache_max_blocks{model_name="m"} 100
trtllm_kv_cache_reused_blocks_total{model_name="m"} 10
trtllm_kv_cache_missed_blocks_total{model_name="m"} 30
"""
        assert load(TRTLLM, page) == Load(
            at=7.0,
            running=6,
            waiting=2,
            kv_usage=0.75,
            cache_block_tokens=32,
            cache_blocks=100,
            prefix_queried_tokens=1280,
            prefix_hit_tokens=320,
        )

    def test_triton(self) -> None:
        requests, blocks = "nv_trt_llm_request_metrics", "nv_trt_llm_kv_cache_block_metrics"
        page = f"""
{requests}{{model="t",request_type="waiting",version="1"}} 1
{requests}{{model="t",request_type="scheduled",version="1"}} 3
{requests}{{model="t",request_type="max",version="1"}} 512
{blocks}{{kv_cache_block_type="tokens_per",model="t"}} 64
{blocks}{{kv_cache_block_type="used",model="t"}} 1
{blocks}{{kv_cache_block_type="max",model="t"}} 6239
{blocks}{{kv_cache_block_type="fraction",model="t"}} 0.5
"""
        assert load(TRTLLM, page) == Load(
            at=7.0,
            running=3,
            waiting=1,
            kv_usage=0.5,
            cache_block_tokens=64,
            cache_blocks=6239,
        )


def test_an_engine_that_tells_nothing_tells_nothing() -> None:
    for engine in ENGINES.values():
        if engine.read is not None:
            assert load(engine, "up 1\n") == Load(at=7.0)
