import pytest

from endpoints.probes.models import ModelList, read_models
from routing.fleet import ServedModel


def test_base_models_and_adapters() -> None:
    page = b"""{"object":"list","data":[
      {"id":"base","object":"model","created":1,"owned_by":"vllm","root":"/models/base",
       "parent":null,"max_model_len":8192,"permission":[{"id":"x"}]},
      {"id":"alias","object":"model","owned_by":"vllm","root":"base","parent":null},
      {"id":"lora-1","object":"model","owned_by":"vllm","root":"/loras/1","parent":"base",
       "max_model_len":null}]}"""
    assert read_models(page) == ModelList(
        (
            ServedModel("base", None, 8192),
            ServedModel("alias"),
            ServedModel("lora-1", "base"),
        ),
        "vllm",
    )


def test_no_models_is_an_answer() -> None:
    assert read_models(b'{"data":[]}') == ModelList((), None)


@pytest.mark.parametrize(
    ("page", "problem"),
    [
        (b"<html>", "malformed"),
        (b"", "truncated"),
        (b"[]", "Expected `object`"),
        (b"{}", "missing required field `data`"),
        (b'{"data":[{"id":7}]}', r"\$\.data\[0\]\.id"),
        (b'{"data":[{"id":"\xff"}]}', "JSON"),
        (b'{"x":' + b"[" * 100_000, "JSON"),
    ],
)
def test_other_pages_are_errors_that_say_where(page: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        read_models(page)
