"""The names that engines give to the memories of their cache, as tiers."""

from routing.prefix.residency import Tier

_TIERS = {
    "": Tier.GPU,
    "gpu": Tier.GPU,
    "cpu": Tier.CPU,
    "cpu_pinned": Tier.CPU,
    "disk": Tier.DISK,
    "external": Tier.SHARED,
    "shared": Tier.SHARED,
    "storage": Tier.SHARED,
}
_REMOTE = "remote"


def tier_of(medium: str | None, locality: str | None = None) -> Tier | None:
    """The tier of a medium, in any case of letters; None for a name that nobody knows.

    Engines that have one memory leave the medium out: it is the GPU's. vLLM says "GPU" when
    it computes on a CPU, too. Blocks whose locality is REMOTE are shared, wherever they lie.
    """
    if locality is not None and locality.lower() == _REMOTE:
        return Tier.SHARED
    return _TIERS.get((medium or "").lower())
