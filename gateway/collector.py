"""How Python's cyclic garbage collector is set for a process that serves.

A finished request leaves no reference cycles, so counting references frees all of it, and a
full collection finds nothing: it only walks the prefix index, a million objects, while every
client waits. So what lives when serving begins is set aside, and only young objects are looked
at (the exceptions of failed requests are what cycles there are, and they die young).
"""

import gc

_YOUNG = 10_000  # objects made before the youngest are looked at; Python's own default is 700
_MIDDLE = 20  # such rounds before those that survived one are looked at again
_NEVER = 1_000_000_000


def collect_young_only() -> None:
    """To be called once everything is loaded and wired."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _MIDDLE, _NEVER)
