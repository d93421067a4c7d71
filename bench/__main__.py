"""``python -m bench``: the benches without the rest of the command line."""

from bench.command import app

if __name__ == "__main__":
    app()
