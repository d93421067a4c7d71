"""`inferway` that ends when its standard input does: ``python -m bench.chaos.served serve ...``.

Whoever started it holds the other end, so it never outlives the bench, however that ends.
"""

import os
import signal
import sys
import threading

from gateway.cli import main


def _end_with_stdin() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    main()
