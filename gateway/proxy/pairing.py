"""What a sidecar knows: its decode engine, and the prefill servers that requests name.

A header names them, as llm-d's endpoint picker writes it: ``host:port``, or several with commas.
Whoever may send that header decides where this process connects to, so addresses can be limited.
"""

import random
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Final, TypeAlias

from gateway.apis.call import ApiError
from routing.decision import Decision
from routing.endpoint import Endpoint, EndpointState
from routing.legs import PrefillLeg
from routing.policies.policy import Choice
from routing.request import Request
from routing.router import Router

PREFILLER: Final = b"x-prefiller-host-port"
_MOST_PREFILLERS: Final = 1_024

Network: TypeAlias = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class PairingSettings:
    """How prefill servers are reached and told apart.

    ``labels`` are those of every endpoint (its connector, its ports), ``sampling`` has one of
    several named ones drawn instead of taking the first, ``allowed`` limits their addresses (None:
    no limit).
    """

    scheme: str = "http"
    labels: tuple[tuple[str, str], ...] = ()
    sampling: bool = False
    allowed: tuple[Network, ...] | None = None


class Pairing:
    """One decode engine, and whoever computes prompts for it."""

    def __init__(
        self,
        router: Router,
        decode: EndpointState,
        settings: PairingSettings,
        dice: random.Random,
    ) -> None:
        self.router = router
        self._decode = decode
        self._settings = settings
        self._dice = dice
        self._known: OrderedDict[str, EndpointState] = OrderedDict()

    def decide(self, request: Request, named: bytes | None, now: float) -> Decision:
        """The decision that whoever named the prefill servers has made. Raises `ApiError`."""
        leg: PrefillLeg | None = None
        states = [] if named is None else [self._state(one, now) for one in addresses(named)]
        if states:
            first = self._dice.randrange(len(states)) if self._settings.sampling else 0
            leg = PrefillLeg(
                states[first],
                request.prompt_tokens,
                0.0,
                0.0,
                request.prompt_tokens,
                0.0,
                0.0,
                tuple(states[:first] + states[first + 1 :]),
            )
        choice = Choice(self._decode, 0.0, 0.0, None, "chosen before the sidecar")
        return self.router.adopt(request, choice, leg, now)

    def _state(self, address: str, now: float) -> EndpointState:
        """The endpoint at an address, as healthy as whoever named it believes."""
        known = self._known.get(address)
        if known is None:
            self._check(address)
            url = f"{self._settings.scheme}://{address}"
            labels = (("role", "prefill"), *self._settings.labels)
            known = self.router.upsert_endpoint(Endpoint(address, url, labels=labels), now)
            self._known[address] = known
            self._forget_oldest()
        self._known.move_to_end(address)
        self.router.fleet.observe_health(address, True, now, "named by a request")
        return known

    def _check(self, address: str) -> None:
        allowed = self._settings.allowed
        if allowed is None:
            return
        host = address.rpartition(":")[0].strip("[]")
        try:
            ip = ip_address(host)
        except ValueError:
            raise _forbidden(address) from None
        if not any(ip in network for network in allowed):
            raise _forbidden(address)

    def _forget_oldest(self) -> None:
        for address, state in list(self._known.items()):
            if len(self._known) <= _MOST_PREFILLERS:
                return
            if not state.ledger.requests:
                del self._known[address]
                self.router.remove_endpoint(address)


def addresses(named: bytes) -> Sequence[str]:
    """The ``host:port`` in a header's value. Raises `ApiError` for anything else."""
    found = []
    for part in named.decode("latin-1").split(","):
        address = part.strip()
        if not address:
            continue
        host, _, port = address.rpartition(":")
        plain = host.replace("[", "").replace("]", "").replace(":", "")
        right = port.isascii() and port.isdigit() and 0 < int(port) < 65_536
        if not (right and plain and _is_host(plain)):
            raise ApiError(
                400, "bad_prefiller", f"{PREFILLER.decode()}: {address[:80]!r} is no host:port."
            )
        found.append(address)
    return found


def _is_host(text: str) -> bool:
    return text.isascii() and all(one.isalnum() or one in "-._" for one in text)


def _forbidden(address: str) -> ApiError:
    return ApiError(403, "prefiller_not_allowed", f"The prefill server {address} is not allowed.")
