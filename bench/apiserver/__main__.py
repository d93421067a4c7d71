"""``python -m bench.apiserver --port 8001``: a stand-in of its own, until interrupted."""

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
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, over.set)
    await over.wait()
    await server.stop()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m bench.apiserver", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0: any free one; it is printed")
    asyncio.run(_serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
