"""Endpoints as the protocol names them, ``ip:port`` (IPv6 in brackets), and back.

The brain knows endpoints by name and URL; Envoy wants addresses, and gives addresses as hints.
"""

import logging
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from routing.decision import Decision
from routing.fleet import Fleet

_log = logging.getLogger("inferway.extproc")
_PORTS: Final = {"http": 80, "https": 443}


@lru_cache(maxsize=65_536)
def address_of(url: str) -> tuple[str, str]:
    """A URL's host and ``host:port``, with brackets around an IPv6 address in the second."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = parts.port or _PORTS.get(parts.scheme, 80)
    return host, f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_ip(host: str) -> bool:
    """Whether Envoy can connect to it as it is."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


class AddressBook:
    """Addresses of the fleet's endpoints; tell it by `changed` when the fleet has others."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._names: dict[str, str] = {}
        self._by_host: dict[str, list[str]] = {}
        self._warned: set[str] = set()
        self.changed()

    def changed(self) -> None:
        """The fleet has other endpoints than before."""
        self._names.clear()
        self._by_host.clear()
        for state in self._fleet:
            host, address = address_of(state.endpoint.url)
            if host not in self._warned and not is_ip(host):
                self._warned.add(host)
                _log.warning(
                    "Envoy connects to addresses, not to names: give the endpoint's IP address",
                    extra={"endpoint": state.name, "host": host},
                )
            self._names[address] = state.name
            self._by_host.setdefault(host, []).append(state.name)

    def name_of(self, address: str) -> str | None:
        """The endpoint at an address; None when the fleet has none there."""
        return self._names.get(address)

    def within(self, hint: Iterable[str]) -> frozenset[str]:
        """The endpoints that a subset hint allows: ``ip:port``, or an ``ip`` with all its ports."""
        names: set[str] = set()
        for entry in hint:
            name = self._names.get(entry)
            if name is not None:
                names.add(name)
            else:
                names.update(self._by_host.get(entry.removeprefix("[").removesuffix("]"), ()))
        return frozenset(names)

    @staticmethod
    def destination(decision: Decision, fallbacks: int) -> str:
        """The choices as the protocol wants them: the first, then at most so many ``fallbacks``."""
        return ",".join(
            address_of(choice.endpoint.endpoint.url)[1]
            for choice in decision.choices[: 1 + fallbacks]
        )
