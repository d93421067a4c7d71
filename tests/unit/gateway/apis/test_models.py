"""The gateway's own answers about models."""

import json

import pytest

from gateway.apis.call import ApiError
from gateway.apis.models import model_body, models_body
from routing.fleet import ServedModel

MODELS = {
    "sql": ServedModel("sql", base="zephyr"),
    "zephyr": ServedModel("zephyr", max_model_len=8192),
    "alpaca": ServedModel("alpaca"),
}


def test_the_list_has_bases_first_and_adapters_with_their_base() -> None:
    body = json.loads(models_body(MODELS, 1700000000))
    assert body["object"] == "list"
    assert [(card["id"], card["parent"]) for card in body["data"]] == [
        ("alpaca", None),
        ("zephyr", None),
        ("sql", "zephyr"),
    ]


def test_no_models_are_an_empty_list() -> None:
    assert json.loads(models_body({}, 1)) == {"object": "list", "data": []}


def test_one_model() -> None:
    assert json.loads(model_body(MODELS, "zephyr", 1700000000)) == {
        "id": "zephyr",
        "object": "model",
        "created": 1700000000,
        "owned_by": "inferway",
        "root": "zephyr",
        "parent": None,
        "max_model_len": 8192,
    }


def test_an_unknown_model_is_not_found() -> None:
    with pytest.raises(ApiError) as caught:
        model_body(MODELS, "gpt", 1)
    error = caught.value
    assert (error.status, error.reason, error.param) == (404, "unknown_model", "model")
    assert "`gpt`" in error.message
