"""Steps of an engine that are advanced at once, in closed form."""

from math import ceil, sqrt


class Segment:
    """Steps of ``first + i x growth`` seconds for i = 0, 1, ..., from ``began`` on.

    ``steps`` 0 is a time without any step: the engine waits. It can be cut short, not prolonged.
    """

    __slots__ = ("began", "ends_at", "first", "growth", "steps")

    def __init__(self, began: float, steps: int, first: float, growth: float) -> None:
        self.began = began
        self.steps = steps
        self.first = first
        self.growth = growth
        self.ends_at = self.after(steps)

    def after(self, steps: int) -> float:
        """When so many of its steps are over."""
        return self.began + steps * self.first + self.growth * (steps * (steps - 1) / 2)

    def passed(self, now: float) -> int:
        """Its steps that are over at ``now``."""
        time, steps = now - self.began, self.steps
        if time <= 0.0 or steps == 0:
            return 0
        # Solve after(count) = now; what rounding may have got wrong is put right step by step.
        half = self.growth / 2
        linear = self.first - half
        if half * steps < 1e-9 * linear:
            guess = time / linear
        else:
            guess = (sqrt(linear * linear + 4.0 * half * time) - linear) / (2.0 * half)
        count = min(ceil(guess) + 1, steps)
        while count > 0 and self.after(count) > now:
            count -= 1
        return count

    def cut(self, now: float) -> None:
        """End with the step that runs at ``now``, or that ends just then."""
        if self.steps > 1:
            count = self.passed(now)
            if count == 0 or self.after(count) < now:
                count += 1
            if count < self.steps:
                self.steps = count
                self.ends_at = self.after(count)

    def rest(self, now: float) -> float:
        """Seconds until the step that runs at ``now`` is over; 0 without one."""
        if self.steps == 0:
            return 0.0
        return max(self.after(min(self.passed(now) + 1, self.steps)) - now, 0.0)
