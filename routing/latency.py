"""Learned time models: how long an endpoint takes, and how many tokens a text really has.

All learning here is one rule, robust by construction. A model predicts a positive quantity;
an observation yields the logarithmic error ``e = ln(observed / predicted)``, clamped to
+-1, and the parameters take the multiplicative step ``exp(gain x share x e)``, where
*share* is the parameter's part of the prediction. The clamp bounds what one outlier can do
(about 10 % once settled), the logarithm keeps everything positive, and the gain falls from
1/2 to 1/10 so that the prior is left quickly and old hardware states are forgotten slowly.
This is stochastic gradient descent on the clamped squared log error.
"""

from collections.abc import Callable
from math import exp, log

_SETTLED_GAIN = 0.1
_CLAMP = 1.0


def _clamped_log_error(observed: float, predicted: float) -> float:
    error = log(observed / predicted)
    if error > _CLAMP:
        return _CLAMP
    return error if error > -_CLAMP else -_CLAMP


class AffineTime:
    """Seconds as ``fixed + slope x amount``, learned online by the rule of this module."""

    __slots__ = ("_seen", "fixed", "slope")

    def __init__(self, fixed: float, slope: float) -> None:
        self.fixed = fixed
        """Seconds that don't depend on the amount."""
        self.slope = slope
        """Seconds for each unit of the amount."""
        self._seen = 0

    def seconds(self, amount: float) -> float:
        """The predicted time for ``amount``."""
        return self.fixed + self.slope * amount

    def observe(self, amount: float, seconds: float) -> None:
        """Learn that ``amount`` took ``seconds``; times that aren't positive teach nothing."""
        if not seconds > 0.0 or amount < 0.0:
            return
        self._seen += 1
        predicted = self.fixed + self.slope * amount
        gain = max(_SETTLED_GAIN, 1.0 / (1.0 + self._seen))
        step = gain * _clamped_log_error(seconds, predicted)
        share = self.slope * amount / predicted
        self.fixed = min(max(self.fixed * exp(step * (1.0 - share)), 1e-5), 10.0)
        self.slope = min(max(self.slope * exp(step * share), 1e-9), 1.0)


class Timing:
    """What one endpoint takes for prefill and decode, in seconds.

    - first token: ``overhead + tokens / rate``, where tokens are the uncached prompt tokens
      ahead of a request plus its own (prior: 20 ms and 8,000 tokens/s);
    - next token: ``a + b x sequences decoding together`` (prior: 15 ms + 0.1 ms a sequence).

    ``on_change`` is called after each observation.
    """

    __slots__ = ("decode", "on_change", "prefill")

    def __init__(self) -> None:
        self.prefill = AffineTime(fixed=0.020, slope=1.0 / 8_000.0)
        """Over uncached tokens."""
        self.decode = AffineTime(fixed=0.015, slope=0.0001)
        """Over sequences decoding together."""
        self.on_change: Callable[[], object] | None = None

    @property
    def prefill_rate(self) -> float:
        """Learned prefill speed, tokens a second."""
        return 1.0 / self.prefill.slope

    def prefill_seconds(self, tokens: float) -> float:
        """Time to first token when ``tokens`` uncached tokens must be computed until then."""
        return self.prefill.seconds(tokens)

    def inter_token_seconds(self, batch: float) -> float:
        """Time between two tokens of a sequence when ``batch`` sequences decode together."""
        return self.decode.seconds(batch)

    def observe_prefill(self, tokens: float, seconds: float) -> None:
        """A first token came ``seconds`` after sending, with ``tokens`` ahead and own."""
        self.prefill.observe(tokens, seconds)
        if self.on_change is not None:
            self.on_change()

    def observe_decode(self, seconds: float, batch: float) -> None:
        """Tokens came ``seconds`` apart while ``batch`` sequences decoded together."""
        self.decode.observe(batch, seconds)
        if self.on_change is not None:
            self.on_change()


class TokenScale:
    """Real tokens for each nominal token (four bytes) of one model's prompts, learned.

    Short prompts teach nothing: the chat template's tokens would dominate them.
    """

    __slots__ = ("_seen", "scale")

    MIN_NOMINAL = 64.0

    def __init__(self) -> None:
        self.scale = 1.0
        """Multiply a nominal count by this to get tokens."""
        self._seen = 0

    def observe(self, nominal: float, reported: int) -> None:
        """A prompt of ``nominal`` tokens was reported to have ``reported`` tokens."""
        if nominal < self.MIN_NOMINAL or reported <= 0:
            return
        self._seen += 1
        gain = max(_SETTLED_GAIN, 1.0 / (1.0 + self._seen))
        error = _clamped_log_error(reported, nominal * self.scale)
        self.scale = min(max(self.scale * exp(gain * error), 0.05), 8.0)
