"""One run, from its description to its figures: what a worker process does."""

from bench.replay.faults import FAULTS, NO_FAULT
from bench.replay.outcome import Replay
from bench.replay.presets import PRESETS
from bench.replay.simulation import ReplaySettings, replay
from bench.replay.suite import Run
from bench.replay.summary import Played, summarise
from bench.replay.workload import Workload
from bench.replay.workloads import SHARED_PREFIX, load


def play(run: Run) -> Played:
    """Play a run. One that fails has no figures but says why: the other runs go on."""
    try:
        return summarise(run, simulate(run))
    except Exception as error:  # whatever it was, it is told and fails the checks
        return Played(run, None, failure=f"{type(error).__name__}: {error}")


def workload_of(run: Run) -> Workload:
    """The requests of a run. A seed shapes a synthetic load; a recorded one has its own times."""
    wanted = run.load
    seed = run.seed if wanted.source == SHARED_PREFIX else 0
    return load(wanted.source, requests=wanted.requests, rate=wanted.rate, seed=seed).workload


def simulate(run: Run) -> Replay:
    """The replay of a run, before fresh engines. Raises what `load` and `replay` do."""
    settings = ReplaySettings(
        endpoints=run.load.endpoints,
        engine=PRESETS[run.load.preset],
        speed=run.load.speed,
        seed=run.seed,
        events=run.events,
        fault=NO_FAULT if run.fault is None else FAULTS[run.fault],
    )
    return replay(workload_of(run), run.policy, settings)
