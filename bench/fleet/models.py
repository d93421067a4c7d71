"""The names a server answers to: its base model and the adapters loaded on it."""

import time
from collections.abc import Iterable

from bench.fleet.errors import bad_request, unknown_model


class Models:
    """One base model and its LoRA adapters, in the order in which they were loaded."""

    def __init__(self, base: str, adapters: Iterable[str], context_length: int) -> None:
        self.base = base
        self._adapters = {name: name for name in adapters}
        self._context_length = context_length
        self._created = int(time.time())

    @property
    def adapters(self) -> tuple[str, ...]:
        """Names of the loaded adapters."""
        return tuple(self._adapters)

    def resolve(self, name: str | None) -> str:
        """The model a request is for; one that names none is for the base.

        Raises `RequestError` (404) for an unknown name.
        """
        if name is None:
            return self.base
        if name != self.base and name not in self._adapters:
            raise unknown_model(name, [self.base, *self._adapters])
        return name

    def load(self, name: str, path: str) -> None:
        """Load an adapter; 400 when one of that name is loaded already."""
        if not name or not path:
            raise bad_request("Both 'lora_name' and 'lora_path' must be provided.")
        if name == self.base or name in self._adapters:
            raise bad_request(f"The lora adapter '{name}' has already been loaded.", "lora_name")
        self._adapters[name] = path

    def unload(self, name: str) -> None:
        """Forget an adapter; 404 when it is not loaded."""
        if self._adapters.pop(name, None) is None:
            raise unknown_model(name, [self.base, *self._adapters])

    def listing(self) -> dict[str, object]:
        """The answer of ``/v1/models``."""
        base = self._card(self.base, self.base, None)
        base["max_model_len"] = self._context_length
        cards = [self._card(name, path, self.base) for name, path in self._adapters.items()]
        return {"object": "list", "data": [base, *cards]}

    def _card(self, name: str, root: str, parent: str | None) -> dict[str, object]:
        return {
            "id": name,
            "object": "model",
            "created": self._created,
            "owned_by": "vllm",
            "root": root,
            "parent": parent,
            "max_model_len": None,
            "permission": [],
        }
