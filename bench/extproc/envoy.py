"""Envoy for the bench: the configurations of deploy/envoy, with the bench's addresses."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from bench.overhead.programs import AbsentError

FILES = Path(__file__).parents[2] / "deploy" / "envoy"
RECOMMENDED = "recommended"
DUPLEX = "full-duplex"
PROTOCOL = "protocol"

MODES: dict[str, dict[str, str]] = {
    RECOMMENDED: {},
    DUPLEX: {"request_body_mode": "FULL_DUPLEX_STREAMED", "request_trailer_mode": "SEND"},
    PROTOCOL: {
        "request_body_mode": "FULL_DUPLEX_STREAMED",
        "request_trailer_mode": "SEND",
        "response_body_mode": "FULL_DUPLEX_STREAMED",
    },
}
"""Name -> what differs from the file's ``processing_mode``: the file's own; prompts that Envoy does
not keep; and both bodies through the picker, as the inference extension's protocol asks for."""


def config(mode: str, port: int, admin: int, picker: int, pool: Sequence[int]) -> dict[str, Any]:
    """The bootstrap: deploy/envoy/override-host.yaml with these addresses on loopback.

    Raises `AbsentError` when the file is not there: it is part of a checkout, not of the package.
    """
    file = FILES / "override-host.yaml"
    try:
        found: dict[str, Any] = yaml.safe_load(file.read_text())
    except OSError as error:
        raise AbsentError(f"{file} can't be read: {error.strerror or error}") from error
    found["admin"]["address"] = _address(admin)
    listener = found["static_resources"]["listeners"][0]
    listener["address"] = _address(port)
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    manager["http_filters"][0]["typed_config"]["processing_mode"].update(MODES[mode])
    addresses = {"pool": pool, "inferway": [picker]}
    for cluster in found["static_resources"]["clusters"]:
        cluster["load_assignment"]["endpoints"] = [
            {
                "lb_endpoints": [
                    {"endpoint": {"address": _address(one)}} for one in addresses[cluster["name"]]
                ]
            }
        ]
    return found


def _address(port: int) -> dict[str, object]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
