"""How often, how patiently and how strictly endpoints are probed."""

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class ProbeSettings:
    """All times in seconds, sizes in bytes; ValueError names the field that can't be.

    ``interval`` lies between two visits of a well endpoint, ``models_interval`` between two
    looks at what changes rarely (models, cache size); ``timeout`` bounds one request.
    An unhealthy endpoint is visited again after ``recheck_first``, then twice as long each
    time, up to ``recheck_answering`` while its machine still answers (a refused connection,
    an error status: cheap to ask, and it may be back any moment) or ``recheck_silent`` while
    it does not. ``jitter`` is the share by which each wait varies, so that the visits
    to many endpoints don't fall together.
    """

    interval: float = 0.5
    timeout: float = 2.0
    models_interval: float = 10.0
    unhealthy_after: int = 2
    healthy_after: int = 1
    recheck_first: float = 0.1
    recheck_answering: float = 0.4
    recheck_silent: float = 2.0
    jitter: float = 0.1
    max_page_bytes: int = 4 * 1024 * 1024

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name != "jitter" and not value > 0:
                raise ValueError(f"{field.name} is {value!r}; it must be greater than 0")
        if not 0 <= self.jitter < 1:
            raise ValueError(f"jitter is {self.jitter!r}; it must be at least 0 and less than 1")
