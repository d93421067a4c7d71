"""How long prompts and answers are in tokens, learned by model from what engines report."""

from routing.latency import OutputLength, TokenScale
from routing.request import Request


class Lengths:
    """Token scales and answer lengths of all models.

    ``expected_output``: tokens of an answer that are expected of a model at first.
    """

    __slots__ = ("_expected_output", "_outputs", "_scales")

    def __init__(self, expected_output: int) -> None:
        self._expected_output = expected_output
        self._scales: dict[str | None, TokenScale] = {}
        self._outputs: dict[str | None, OutputLength] = {}

    def scale_of(self, request: Request) -> float:
        """Real tokens for each nominal one of the request's prompt."""
        if request.exact_tokens:
            return 1.0
        learned = self._scales.get(request.model)
        return 1.0 if learned is None else learned.scale

    def output_of(self, request: Request) -> int:
        """Tokens expected of the answer, within the request's own limit."""
        if not request.chains:  # nothing is generated without a KV cache
            return 0
        learned = self._outputs.get(request.model)
        expected = self._expected_output if learned is None else round(learned.tokens)
        if request.max_output_tokens is None:
            return expected
        return max(min(request.max_output_tokens, expected), 0)

    def work_of(self, request: Request) -> float:
        """What it takes of an engine: its tokens, a produced one counted twice; above 0.

        Source: Y. Sheng et al., Fairness in serving large language models (OSDI 2024), 5.1.
        """
        prompt = request.prompt_tokens * self.scale_of(request)
        return 1.0 + prompt + 2.0 * self.output_of(request)

    def observe(
        self, request: Request, prompt_tokens: int | None, completion_tokens: int | None
    ) -> None:
        """Learn from the engine's counts; None: not reported."""
        model = request.model
        if model is None:
            return
        if prompt_tokens is not None and not request.exact_tokens:
            scale = self._scales.get(model)
            if scale is None:
                scale = self._scales[model] = TokenScale()
            scale.observe(request.prompt_tokens, prompt_tokens)
        if completion_tokens is not None and request.chains:
            output = self._outputs.get(model)
            if output is None:
                output = self._outputs[model] = OutputLength(float(self._expected_output))
            output.observe(completion_tokens)
