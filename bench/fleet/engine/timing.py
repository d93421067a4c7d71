"""How long an engine step takes."""

import random

from bench.fleet.settings import Behaviour

_CLAMP = 0.7
"""Jitter never changes a step's time by more than this share, as in llm-d-inference-sim."""


class StepClock:
    """Turns the work of a step into seconds; jitter is drawn from the seed."""

    def __init__(self, behaviour: Behaviour, max_num_seqs: int, seed: int) -> None:
        self.behaviour = behaviour
        self._max_num_seqs = max_num_seqs
        self._rng = random.Random(seed)

    def seconds(
        self,
        *,
        prefill_tokens: int,
        prefill_context: float,
        decoding: int,
        decode_context: int,
        running: int,
        loaded_tokens: int = 0,
    ) -> float:
        """The step's duration, scaled; see `Timing` for the terms.

        Loading from the CPU's memory adds its time, whoever else computes meanwhile.
        """
        behaviour = self.behaviour
        timing = behaviour.timing
        seconds = (
            timing.step_base
            + timing.prefill_token * prefill_tokens
            + timing.prefill_context * prefill_context
            + timing.decode_sequence * decoding
            + timing.decode_context * decode_context
            + loaded_tokens / behaviour.cpu_load_rate
        )
        return seconds * self._load_factor(running) * self._jitter() * behaviour.time_scale

    def _load_factor(self, running: int) -> float:
        """1 with one running sequence, the configured factor when all slots are taken."""
        if self._max_num_seqs <= 1:
            return 1.0
        share = max(running - 1, 0) / (self._max_num_seqs - 1)
        return 1.0 + (self.behaviour.time_factor_under_load - 1.0) * share

    def _jitter(self) -> float:
        deviation = self.behaviour.jitter
        if not deviation:
            return 1.0
        return min(max(self._rng.gauss(1.0, deviation), 1.0 - _CLAMP), 1.0 + _CLAMP)
