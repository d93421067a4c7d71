"""A recorded trace's requests, coming as often as a profile says."""

from collections.abc import Callable
from random import Random

from bench.replay.workload import Arrival, Workload


def at_rate(
    trace: Workload, name: str, rate: Callable[[float], float], seconds: float, seed: int
) -> Workload:
    """The trace's requests in their order, over and over, at ``rate`` requests/s of each time.

    Arrivals are a Poisson process of that rate. Each round has prompts of its own; within one
    they share prefixes as recorded.
    """
    dice = Random(f"{name} {seed}")
    most = 1.05 * max(rate(float(at)) for at in range(0, int(seconds), 10))
    blocks = 1 + max(block for one in trace.arrivals for block in one.blocks)
    arrivals: list[Arrival] = []
    at = 0.0
    while (at := at + dice.expovariate(most)) < seconds:
        if dice.random() * most >= rate(at):
            continue
        turn, place = divmod(len(arrivals), len(trace.arrivals))
        row = trace.arrivals[place]
        arrivals.append(
            Arrival(
                at,
                row.prompt_tokens,
                row.output_tokens,
                tuple(block + turn * blocks for block in row.blocks),
            )
        )
    return Workload(name, tuple(arrivals), trace.block_tokens)
