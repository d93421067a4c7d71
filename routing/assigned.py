"""What one endpoint was assigned lately, and which prompts it may still hold: E2's record.

Two views of the same requests:

- a *window*: tokens to prefill and to produce over the last seconds, in buckets of one
  second, so that memory does not grow with the request rate;
- a *cache*: prompts as segments, least recently used first. A segment is what one request
  added to what was held before. Use is touched from a segment up to those it continues, so
  these are always more recent and leave later.
"""

from collections import OrderedDict, deque
from dataclasses import dataclass

from routing.request import Chain


@dataclass(slots=True)
class _Second:
    at: int
    prefill_tokens: float = 0.0
    output_tokens: float = 0.0
    requests: int = 0


class Segment:
    """Consecutive blocks that one request added; ``parent`` is what they continue."""

    __slots__ = ("_before", "_now", "_since", "hashes", "parent")

    def __init__(self, parent: "Segment | None", hashes: Chain, now: float) -> None:
        self.parent = parent
        self.hashes = hashes
        self._since, self._before, self._now = now, 0, 0

    def use(self, now: float, window: float) -> None:
        """A request used it."""
        self._roll(now, window)
        self._now += 1

    def uses(self, now: float, window: float) -> float:
        """Requests that used it within ``window`` seconds, the older part by interpolation."""
        self._roll(now, window)
        return self._now + self._before * (1.0 - (now - self._since) / window)

    def _roll(self, now: float, window: float) -> None:
        if now - self._since >= window:
            recent = now - self._since < 2.0 * window
            self._before, self._now = (self._now if recent else 0), 0
            self._since = self._since + window if recent else now


class Assigned:
    """One endpoint's assignments over ``window`` seconds."""

    __slots__ = (
        "_recent",
        "_seconds",
        "_segments",
        "capacity",
        "output_tokens",
        "prefill_tokens",
        "requests",
        "window",
    )

    def __init__(self, window: float, capacity: int) -> None:
        self.window = window
        self.capacity = capacity
        """Blocks the endpoint can hold."""
        self.prefill_tokens = 0.0
        """Uncached prompt tokens assigned within the window, as of the last `expire`."""
        self.output_tokens = 0.0
        """Output tokens expected of what was assigned within the window."""
        self.requests = 0
        """Requests assigned within the window."""
        self._seconds: deque[_Second] = deque()
        self._segments: dict[int, Segment] = {}  # by the hash of each of their blocks
        self._recent: OrderedDict[Segment, None] = OrderedDict()

    @property
    def blocks(self) -> int:
        """Blocks believed to be held."""
        return len(self._segments)

    def expire(self, now: float) -> None:
        """Forget what is older than the window."""
        seconds, oldest = self._seconds, now - self.window
        while seconds and seconds[0].at < oldest:
            gone = seconds.popleft()
            self.prefill_tokens -= gone.prefill_tokens
            self.output_tokens -= gone.output_tokens
            self.requests -= gone.requests
        if not seconds:  # sums of floats must not drift
            self.prefill_tokens = self.output_tokens = 0.0

    def assign(self, now: float, prefill_tokens: float, output_tokens: float) -> None:
        """Count a request into the window."""
        if not self._seconds or self._seconds[-1].at != int(now):
            self._seconds.append(_Second(int(now)))
        second = self._seconds[-1]
        second.prefill_tokens += prefill_tokens
        second.output_tokens += output_tokens
        second.requests += 1
        self.prefill_tokens += prefill_tokens
        self.output_tokens += output_tokens
        self.requests += 1

    def held(self, chain: Chain) -> int:
        """Leading blocks of ``chain`` that are held. O(log blocks).

        Whoever holds a block holds all before it, so the end is found by bisection.
        """
        segments = self._segments
        low, high = 0, len(chain)
        while low < high:
            middle = (low + high + 1) // 2
            if chain[middle - 1] in segments:
                low = middle
            else:
                high = middle - 1
        return low

    def victims(self, blocks: int) -> list[Segment]:
        """The segments that would have to go for ``blocks`` more to fit, oldest first."""
        excess = len(self._segments) + blocks - self.capacity
        found: list[Segment] = []
        if excess > 0:
            for segment in self._recent:
                found.append(segment)
                excess -= len(segment.hashes)
                if excess <= 0:
                    break
        return found

    def store(self, chain: Chain, now: float) -> None:
        """A request with this prompt runs there: hold it, and drop what it displaces."""
        chain = chain[: self.capacity]
        held = self.held(chain)
        segment = self._segments[chain[held - 1]] if held else None
        if held < len(chain):
            segment = Segment(segment, chain[held:], now)
            self._segments.update(dict.fromkeys(segment.hashes, segment))
            self._recent[segment] = None
        while segment is not None:
            segment.use(now, self.window)
            self._recent.move_to_end(segment)
            segment = segment.parent
        while len(self._segments) > self.capacity:
            gone, _ = self._recent.popitem(last=False)
            for block in gone.hashes:
                del self._segments[block]
