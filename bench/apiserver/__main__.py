"""``python -m bench.apiserver --port 8001``: a stand-in of its own, until interrupted.

SIGUSR1 closes all watches, SIGUSR2 forgets the history, so that they must list again.
"""

import argparse
import asyncio
import signal
import sys

from bench.apiserver.server import ApiServer


async def _serve(port: int) -> None:
    server = ApiServer()
    server.port = port
    await server.start()
    sys.stdout.write(f"{server.url}\n")
    sys.stdout.flush()
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, over.set)
    loop.add_signal_handler(signal.SIGUSR1, server.close_watches)
    loop.add_signal_handler(signal.SIGUSR2, server.forget)
    await over.wait()
    await server.stop()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m bench.apiserver", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0: any free one; it is printed")
    asyncio.run(_serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
