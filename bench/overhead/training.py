"""Shows a compiler what is hot: a little of each kind of work for a gateway that counts its paths.

``python -m bench.overhead.training``; `compile.py` runs it between its two passes, with the
counting build in front on ``PYTHONPATH``.
"""

import sys

from bench.overhead.gateways import INFERWAY
from bench.overhead.measure import Servers, run
from bench.overhead.scenarios import chosen

_SHARES = {
    "unary-4k-c1": 0.25,
    "unary-4k-c32": 0.3,
    "streams-100": 1.0,
    "long-220k-c20": 0.2,
}
"""Of the scenarios' full numbers of requests: 7,700 in some 15 seconds."""
_SERVERS = 4


def main() -> None:
    """Play them all; ends the process with status 1 when a request failed."""
    errors = 0
    with Servers(_SERVERS) as servers:
        for name, share in _SHARES.items():
            (scenario,) = chosen([name])
            errors += run(INFERWAY, scenario.scaled(share), servers).errors
    if errors:
        sys.exit(f"{errors} requests of the training failed")


if __name__ == "__main__":
    main()
