"""``python -m bench.fleet``: simulated servers without the rest of the command line."""

import typer

from bench.fleet.command import sim

if __name__ == "__main__":
    typer.run(sim)
