"""Reading the OpenAI list of models."""

from dataclasses import dataclass

import msgspec

from endpoints.probes.jsonpage import decode_json
from routing.fleet import ServedModel


class _Card(msgspec.Struct):
    id: str
    parent: str | None = None
    max_model_len: int | None = None
    owned_by: str | None = None


class _List(msgspec.Struct):
    data: list[_Card]


@dataclass(frozen=True, slots=True)
class ModelList:
    """What an endpoint serves, and who the list says owns it (engines write their name)."""

    models: tuple[ServedModel, ...]
    owner: str | None


def read_models(page: bytes) -> ModelList:
    """The models on a ``/v1/models`` page; ValueError says what is wrong with another page.

    An adapter's card names its base as ``parent``. ``root`` does not count: it is where
    the weights come from, and aliases of one model share it.
    """
    cards = decode_json(page, _List).data
    models = tuple(ServedModel(card.id, card.parent, card.max_model_len) for card in cards)
    return ModelList(models, next((card.owned_by for card in cards if card.owned_by), None))
