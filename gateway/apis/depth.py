"""How deeply JSON is nested, for those who bound it: an engine's parser may be less patient.

The decoder of the gateway bounds it as well, at about a thousand levels. Two counts answer for
nearly every body: what has no more brackets than levels allowed can't be too deep.
"""

import re
from typing import Final

import numpy as np

_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_STEPS: Final = np.zeros(256, np.int8)
_STEPS[list(b"[{")] = 1
_STEPS[list(b"]}")] = -1


def deeper_than(body: bytes, limit: int) -> bool:
    """Whether arrays and objects of ``body`` are nested more than ``limit`` levels deep.

    For any bytes, in linear time; what is no JSON is judged by the brackets outside of strings.
    """
    if body.count(b"{") + body.count(b"[") <= limit:
        return False
    brackets = np.frombuffer(_STRING.sub(b"", body), np.uint8)
    if not len(brackets):
        return False
    depth = np.cumsum(_STEPS[brackets], dtype=np.int32)
    return bool(depth.max() > limit)
