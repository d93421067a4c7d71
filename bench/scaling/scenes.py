"""The scenes of the bench: each pattern with its engines, objective and first size."""

from pathlib import Path

from bench.replay.presets import PRESETS
from bench.replay.workload import Workload
from bench.replay.workloads import SAMPLE_NAME, load
from bench.scaling.patterns import HOUR, conversations, diurnal, repeated, spikes
from bench.scaling.simulation import Scene
from endpoints.scaling.role import Role
from endpoints.scaling.settings import Bounds, Objective, ScalingSettings

PRESET = "32b-h100x2"
MOST = 24
STARTUP = (60.0, 300.0)
CHAT = Objective(ttft=2.0, itl=0.050, percentile=0.95)
LONG = Objective(ttft=5.0, itl=0.050, percentile=0.95)
"""For prompts of which the longest take seconds to compute."""
SYNTHETIC = ("spike", "diurnal")
"""The patterns on which ours must need fewer endpoint-hours than the best HPA."""


def scene(name: str, seed: int, *, full: bool) -> Scene:
    """A pattern by name (``spike``, ``diurnal``, ``sample``), or a trace by its file.

    A seed shapes synthetic traffic and every start-up time. Raises `TraceError` for a file that
    can't be read.
    """
    if name == "spike":
        hours = 4.0 if full else 2.0
        work = conversations(name, spikes(hours, 3.0, seed), hours * HOUR, seed)
        return made(work, CHAT, 5)
    if name == "diurnal":
        hours = 12.0 if full else 4.0
        work = conversations(name, diurnal(hours, 3.0, seed), hours * HOUR, seed)
        return made(work, CHAT, 3)
    if name == SAMPLE_NAME:
        return made(repeated(load(SAMPLE_NAME).workload.faster(1.5), HOUR), LONG, 5)
    work = load(name).workload
    mean = sum(one.prompt_tokens for one in work.arrivals) / len(work.arrivals)
    if mean > 5_000.0:
        return made(work, LONG, 6)
    # Short prompts are little work for a node of two H100: the smaller model on one L40S.
    return made(work, Objective(3.0, 0.100, 0.95), 6, preset="8b-l40s")


def made(work: Workload, objective: Objective, initial: int, preset: str = PRESET) -> Scene:
    """A scene with the settings that all of them share."""
    settings = ScalingSettings(
        roles={Role.BOTH: Bounds(1, MOST)},
        objective=objective,
        startup=sum(STARTUP) / 2.0,
        season=None,
    )
    return Scene(work, PRESETS[preset], settings, initial, STARTUP)


def label(name: str) -> str:
    """What a pattern is called in results."""
    return name if name in {*SYNTHETIC, SAMPLE_NAME} else Path(name).name.partition(".")[0]
