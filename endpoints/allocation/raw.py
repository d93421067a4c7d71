"""Reading the API server's JSON: a wrong shape is an error that names its field."""

from collections.abc import Iterator, Mapping
from typing import Any

from endpoints.allocation.quantity import parse_quantity

Raw = Mapping[str, Any]


class InventoryError(ValueError):
    """An object that can't be read; the message names object, field and what is wrong."""


def metadata(item: Raw) -> Raw:
    """Its metadata."""
    return mapping(item, "metadata", item.get("kind", "object"))


def name_of(item: Raw) -> str:
    """Its name."""
    return text(metadata(item), "name", f"{item.get('kind', 'object')}.metadata")


def key_of(item: Raw) -> str:
    """``namespace/name``."""
    return f"{metadata(item).get('namespace', 'default')}/{name_of(item)}"


def mapping(item: Raw, key: str, at: str) -> Raw:
    """A mapping that may be missing (then empty)."""
    value = item.get(key)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InventoryError(f"{at}.{key}: is no mapping but {value!r}")
    return value


def text(item: Raw, key: str, at: str) -> str:
    """A text that must be there."""
    value = item.get(key)
    if not isinstance(value, str) or not value:
        raise InventoryError(f"{at}.{key}: is no text but {value!r}")
    return value


def optional_text(item: Raw, key: str, at: str) -> str | None:
    """A text, or None where it is missing."""
    return None if item.get(key) is None else text(item, key, at)


def integer(item: Raw, key: str, at: str, default: int | None = None) -> int:
    """A whole number."""
    value = item.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int):
        raise InventoryError(f"{at}.{key}: is no whole number but {value!r}")
    return value


def flag(item: Raw, key: str, at: str) -> bool:
    """True or false; missing is false."""
    value = item.get(key)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise InventoryError(f"{at}.{key}: is neither true nor false but {value!r}")
    return value


def items(item: Raw, key: str, at: str) -> Iterator[tuple[str, Raw]]:
    """The mappings of a list that may be missing, each with its place."""
    value = item.get(key) or ()
    if not isinstance(value, list | tuple):
        raise InventoryError(f"{at}.{key}: is no list but {value!r}")
    for index, one in enumerate(value):
        if not isinstance(one, Mapping):
            raise InventoryError(f"{at}.{key}[{index}]: is no mapping but {one!r}")
        yield f"{at}.{key}[{index}]", one


def texts(item: Raw, key: str, at: str) -> tuple[str, ...]:
    """The texts of a list that may be missing."""
    value = item.get(key) or ()
    if not isinstance(value, list | tuple) or not all(isinstance(one, str) for one in value):
        raise InventoryError(f"{at}.{key}: is no list of texts but {value!r}")
    return tuple(value)


def quantity(value: object, at: str) -> int:
    """Billionths."""
    try:
        return parse_quantity(value)  # type: ignore[arg-type]  # it checks
    except ValueError as error:
        raise InventoryError(f"{at}: {error}") from None


def qualified(name: str, driver: str) -> str:
    """``domain/name``; names without a domain belong to the driver."""
    return name if "/" in name else f"{driver}/{name}"
