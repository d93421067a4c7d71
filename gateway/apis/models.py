"""What the gateway itself answers to ``GET /v1/models`` and ``GET /v1/models/{id}``."""

from collections.abc import Mapping
from typing import Final

import msgspec

from gateway.apis.call import ApiError
from routing.fleet import ServedModel

_encode: Final = msgspec.json.Encoder().encode


def models_body(models: Mapping[str, ServedModel], created: int) -> bytes:
    """List the models by name, base models before adapters.

    `created` is a Unix time in seconds: clients require one, engines make one up, and the
    gateway gives the time it started.
    """
    ordered = sorted(models.values(), key=lambda model: (model.base is not None, model.name))
    return _encode({"object": "list", "data": [_card(model, created) for model in ordered]})


def model_body(models: Mapping[str, ServedModel], name: str, created: int) -> bytes:
    """Describe one model.

    Raises:
        ApiError: 404 ``unknown_model``.

    """
    if name not in models:
        message = f"The model `{name}` does not exist; GET /v1/models lists those that do."
        raise ApiError(404, "unknown_model", message, param="model")
    return _encode(_card(models[name], created))


def _card(model: ServedModel, created: int) -> dict[str, object]:
    return {
        "id": model.name,
        "object": "model",
        "created": created,
        "owned_by": "inferway",
        "root": model.name,
        "parent": model.base,
        "max_model_len": model.max_model_len,
    }
