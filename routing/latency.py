"""Learned time models: how long an endpoint takes, and how many tokens a text really has.

A time is linear in what causes it: ``fixed + slope x amount + tilt x other``. Each model is
learned online by recursive least squares with a forgetting factor, so that old states of the
hardware fade (Haykin, Adaptive Filter Theory, ch. 10), on logarithms, since times are positive
and wrong by factors: the error of one observation is ``ln(observed / predicted)``, linearised in
the logarithms of the parameters (an extended Kalman filter without process noise). It is clamped to
+-1, which bounds what an outlier can do to a few percent once settled. What was never exercised
stays at its prior.

What one endpoint has not shown yet, its like have: endpoints of one pool (same hardware label)
share a model, and each has one factor of its own, believed to be 1 until it shows otherwise.
"""

from math import exp, log, sqrt
from typing import Final

from routing.marks import Mark

_CLAMP: Final = 1.0
_FORGET: Final = 0.97  # about the last 33 observations count
_UNSURE: Final = 4.0  # variance of a parameter's logarithm before the first observation
_SURE: Final = 1e-4
_LEAST: Final = 0.01  # of its prior: a parameter stays within these
_MOST: Final = 1000.0
_SETTLED_GAIN: Final = 0.1
_PRIOR: Final = 4.0  # observations that being like the pool is worth
_FACTOR_GAIN: Final = 0.05
_DRAW: Final = 0.05
_TOLD_ALL: Final = 64  # observations up to which all members are told at times
_TOLD_IN_TURN: Final = 4
_LENGTH_GAIN: Final = 0.01
_MOST_APART: Final = 2.5  # an endpoint is at most 12 times as fast or slow as its pool


def _clamped_log_error(observed: float, predicted: float) -> float:
    error = log(observed / predicted)
    if error > _CLAMP:
        return _CLAMP
    return error if error > -_CLAMP else -_CLAMP


class LinearTime:
    """Seconds as ``fixed + slope x amount + tilt x other``, learned by the rule of this module."""

    __slots__ = (
        "_p00",
        "_p01",
        "_p02",
        "_p11",
        "_p12",
        "_p22",
        "_prior",
        "fixed",
        "seen",
        "slope",
        "tilt",
    )

    def __init__(self, fixed: float, slope: float, tilt: float) -> None:
        self.fixed = fixed
        """Seconds that don't depend on the amounts."""
        self.slope = slope
        """Seconds for each unit of the amount."""
        self.tilt = tilt
        """Seconds for each unit of the other amount."""
        self.seen = 0
        """Observations so far."""
        self._prior = (fixed, slope, tilt)
        # The covariance of the three parameters' logarithms; it is symmetric.
        self._p00 = self._p11 = self._p22 = _UNSURE
        self._p01 = self._p02 = self._p12 = 0.0

    def seconds(self, amount: float, other: float = 0.0) -> float:
        """The predicted time."""
        return self.fixed + self.slope * amount + self.tilt * other

    def observe(self, amount: float, other: float, seconds: float) -> None:
        """Learn that the amounts took ``seconds``; times that aren't positive teach nothing."""
        if not seconds > 0.0 or amount < 0.0 or other < 0.0:
            return
        self.seen += 1
        predicted = self.fixed + self.slope * amount + self.tilt * other
        error = _clamped_log_error(seconds, predicted)
        # Features: by how much the logarithm of the time moves with that of each parameter.
        f0 = self.fixed / predicted
        f1 = self.slope * amount / predicted
        f2 = self.tilt * other / predicted
        g0 = self._p00 * f0 + self._p01 * f1 + self._p02 * f2
        g1 = self._p01 * f0 + self._p11 * f1 + self._p12 * f2
        g2 = self._p02 * f0 + self._p12 * f1 + self._p22 * f2
        spread = f0 * g0 + f1 * g1 + f2 * g2
        if spread < 0.0:
            # Forgetting and the bounds below have left what is no covariance: it would turn away
            # from what is observed, for ever. The variances alone are one.
            self._p01 = self._p02 = self._p12 = 0.0
            g0, g1, g2 = self._p00 * f0, self._p11 * f1, self._p22 * f2
            spread = f0 * g0 + f1 * g1 + f2 * g2
        scale = 1.0 / (_FORGET + spread)
        step = scale * error
        fixed, slope, tilt = self._prior
        self.fixed = _bounded(self.fixed * exp(g0 * step), fixed)
        self.slope = _bounded(self.slope * exp(g1 * step), slope)
        self.tilt = _bounded(self.tilt * exp(g2 * step), tilt)
        self._p00 = _variance((self._p00 - scale * g0 * g0) / _FORGET)
        self._p11 = _variance((self._p11 - scale * g1 * g1) / _FORGET)
        self._p22 = _variance((self._p22 - scale * g2 * g2) / _FORGET)
        self._p01 = _within((self._p01 - scale * g0 * g1) / _FORGET, self._p00, self._p11)
        self._p02 = _within((self._p02 - scale * g0 * g2) / _FORGET, self._p00, self._p22)
        self._p12 = _within((self._p12 - scale * g1 * g2) / _FORGET, self._p11, self._p22)


def _bounded(value: float, prior: float) -> float:
    return min(max(value, _LEAST * prior), _MOST * prior)


def _variance(value: float) -> float:
    """Neither surer than observations can make it (or rounding) nor less sure than at first."""
    return min(max(value, _SURE), _UNSURE)


def _within(covariance: float, one: float, other: float) -> float:
    """A covariance that two variances allow (just below their geometric mean)."""
    most = 0.99 * sqrt(one * other)
    return min(max(covariance, -most), most)


class ScaledTime:
    """One endpoint's times: its pool's `LinearTime`, times one factor of its own.

    What the hardware does with tokens is the same throughout a pool; how fast a single endpoint
    is may differ (a throttled GPU, a noisy neighbour, an unlabelled other model of card). One
    number is soon learned and can't go astray: the forgetting mean of the clamped logarithmic
    errors, which starts as if ``_PRIOR`` observations had said that it is like its pool, and is
    drawn back to that a little with each new one.
    """

    __slots__ = ("_log_factor", "_pool", "factor", "fixed", "seen", "slope", "tilt")

    def __init__(self, pool: LinearTime) -> None:
        self._pool = pool
        self._log_factor = 0.0
        self.factor = 1.0
        """How much longer everything takes than in its pool."""
        self.seen = 0
        """Own observations so far."""
        self.fixed = pool.fixed
        """Seconds that don't depend on the amounts."""
        self.slope = pool.slope
        """Seconds for each unit of the amount."""
        self.tilt = pool.tilt
        """Seconds for each unit of the other amount."""

    def seconds(self, amount: float, other: float = 0.0) -> float:
        """The predicted time."""
        return self.fixed + self.slope * amount + self.tilt * other

    def observe(self, amount: float, other: float, seconds: float) -> None:
        """Learn, for the endpoint and for its pool."""
        if not seconds > 0.0 or amount < 0.0 or other < 0.0:
            return
        self.seen += 1
        # The pool first: what all have in common must not end up in one endpoint's factor. The
        # factor's root is taken out rather than all of it: only the product of pool and factor is
        # ever observed, so with all of it the two could drift apart, and whoever is rarely tried
        # would look as slow as the pool has become. With half, what they have in common fades.
        self._pool.observe(amount, other, seconds / sqrt(self.factor))
        self.follow()
        error = _clamped_log_error(seconds, self.seconds(amount, other))
        gain = max(_FACTOR_GAIN, 1.0 / (_PRIOR + self.seen))
        self._log_factor += gain * (error - _DRAW * self._log_factor)
        self._log_factor = min(max(self._log_factor, -_MOST_APART), _MOST_APART)
        self.factor = exp(self._log_factor)
        self.follow()

    def follow(self) -> None:
        """Bring the parameters up to what the pool has learned."""
        pool, factor = self._pool, self.factor
        self.fixed = pool.fixed * factor
        self.slope = pool.slope * factor
        self.tilt = pool.tilt * factor


class PoolTiming:
    """What endpoints of one kind have in common.

    Priors: first token after 20 ms + 1/8,000 s for each token to compute + 1 ns for each token
    that stands before one of these; next token after 15 ms + 0.1 ms for each sequence + 10 ns for
    each KV token of the batch. ``fetch`` is not learned: 13 us for each token that comes from a
    lower tier, 25 GB/s at 320 KB a token.
    """

    __slots__ = ("_members", "_turn", "decode", "fetch", "prefill")

    def __init__(self) -> None:
        self.prefill = LinearTime(fixed=0.020, slope=1.0 / 8_000.0, tilt=1e-9)
        self.decode = LinearTime(fixed=0.015, slope=0.0001, tilt=10e-9)
        self.fetch = 13e-6
        self._members: list[Timing] = []
        self._turn = 0  # the index of the member told longest ago; then in their order, round

    def join(self, timing: "Timing") -> None:
        """Follow what the pool learns: as the one told last."""
        self._members.insert(self._turn, timing)
        self._turn += 1
        self._wrap()

    def leave(self, timing: "Timing") -> None:
        """The endpoint is gone. O(members)."""
        if timing in self._members:
            place = self._members.index(timing)
            del self._members[place]
            self._turn -= place < self._turn
            self._wrap()

    def learned(self) -> None:
        """Tell the members: a few in turn, so that an observation costs the same in any pool.

        The first ones move the pool far from its prior: all are told of the first, the second,
        the fourth and so on.
        """
        seen = self.prefill.seen + self.decode.seen
        if seen <= _TOLD_ALL and not seen & (seen - 1):
            for timing in self._members:
                timing.follow()
            return
        for _ in range(min(_TOLD_IN_TURN, len(self._members))):
            self._members[self._turn].follow()
            self._turn += 1
            self._wrap()

    def _wrap(self) -> None:
        if self._turn >= len(self._members):
            self._turn = 0


class Timing:
    """What one endpoint takes for prefill and decode, in seconds.

    - first token: ``overhead + tokens / rate + context x seconds each``, where tokens are the
      uncached prompt tokens ahead of a request plus its own, and context the tokens that stand
      before each of them, summed up: attention makes the later tokens of a prompt dearer;
    - next token: ``a + b x sequences decoding together + c x KV tokens they read``.

    ``mark`` is set after each observation. ``pool`` is what its like have learned; a timing
    without one starts a pool of its own.
    """

    __slots__ = ("_pool", "decode", "mark", "prefill")

    def __init__(self, pool: PoolTiming | None = None) -> None:
        self._pool = PoolTiming() if pool is None else pool
        self.prefill = ScaledTime(self._pool.prefill)
        """Over uncached tokens, and the contexts they stand in."""
        self.decode = ScaledTime(self._pool.decode)
        """Over sequences decoding together, and their KV tokens."""
        self.mark: Mark | None = None
        self._pool.join(self)

    @property
    def prefill_rate(self) -> float:
        """Learned prefill speed, tokens a second."""
        return 1.0 / self.prefill.slope

    @property
    def fetch(self) -> float:
        """Seconds for each token that is fetched from a lower tier of the cache."""
        return self._pool.fetch

    def prefill_seconds(self, tokens: float, context: float = 0.0) -> float:
        """Time to first token when ``tokens`` uncached tokens must be computed until then."""
        return self.prefill.seconds(tokens, context)

    def inter_token_seconds(self, batch: float, kv_tokens: float = 0.0) -> float:
        """Time between two tokens of a sequence when ``batch`` sequences decode together."""
        return self.decode.seconds(batch, kv_tokens)

    def observe_prefill(self, tokens: float, seconds: float, context: float = 0.0) -> None:
        """A first token came ``seconds`` after sending, with ``tokens`` ahead and own."""
        self.prefill.observe(tokens, context, seconds)
        self._changed()

    def observe_decode(self, seconds: float, batch: float, kv_tokens: float = 0.0) -> None:
        """Tokens came ``seconds`` apart while ``batch`` sequences decoded together."""
        self.decode.observe(batch, kv_tokens, seconds)
        self._changed()

    def follow(self) -> None:
        """The pool has learned something."""
        self.prefill.follow()
        self.decode.follow()
        if self.mark is not None:
            self.mark.set()

    def leave_pool(self) -> None:
        """The endpoint is gone: the pool need not tell it any more."""
        self._pool.leave(self)

    def _changed(self) -> None:
        if self.mark is not None:
            self.mark.set()
        self._pool.learned()


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


class OutputLength:
    """Mean tokens of one model's answers, learned; it starts at what the router was told."""

    __slots__ = ("_seen", "tokens")

    def __init__(self, tokens: float) -> None:
        self.tokens = tokens
        self._seen = 0

    def observe(self, tokens: int) -> None:
        """An answer had so many tokens."""
        self._seen += 1
        gain = max(_LENGTH_GAIN, 1.0 / (_PRIOR + self._seen))
        self.tokens += gain * (tokens - self.tokens)
