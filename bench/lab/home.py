"""Where the lab keeps what it downloads, makes and runs."""

import os
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "INFERWAY_LAB"
"""The environment variable that moves the lab."""


@dataclass(frozen=True, slots=True)
class Home:
    """The lab's folder, and what is where in it. Nothing outside of it is written."""

    root: Path

    @property
    def venv(self) -> Path:
        """The engines' own virtual environment: theirs and ours have nothing in common."""
        return self.root / "venv"

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.venv / "bin" / "python"

    @property
    def wheels(self) -> Path:
        """Wheels that are downloaded to be opened by hand."""
        return self.root / "wheels"

    @property
    def model(self) -> Path:
        """The model as Hugging Face's libraries read it."""
        return self.root / "models" / "SmolLM2-135M-Instruct"

    @property
    def adapter(self) -> Path:
        """A LoRA adapter of that model."""
        return self.root / "models" / "adapter"

    @property
    def steps(self) -> Path:
        """One empty file for each finished step of the installation."""
        return self.root / "steps"

    @property
    def logs(self) -> Path:
        """What pip and the servers write."""
        return self.root / "logs"

    @property
    def state(self) -> Path:
        """Which processes were started."""
        return self.root / "processes.json"

    @property
    def config(self) -> Path:
        """The gateway's configuration before the servers that run."""
        return self.root / "inferway.yaml"


def home(chosen: Path | None = None) -> Home:
    """The folder that is asked for, else the one of `VARIABLE`, else one in the user's cache."""
    if chosen is None:
        named = os.environ.get(VARIABLE)
        cache = os.environ.get("XDG_CACHE_HOME")
        if named:
            chosen = Path(named)
        else:
            chosen = (Path(cache) if cache else Path.home() / ".cache") / "inferway" / "lab"
    return Home(chosen.expanduser().resolve())
