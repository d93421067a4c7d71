"""How a replica is written for each scheduler: one module each, with one function ``objects``."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

from endpoints.allocation.emission.gangs import grove, kai, lws, native, plain
from endpoints.allocation.emission.gangs.setting import Setting
from endpoints.allocation.emission.identity import Object, Replica
from endpoints.allocation.emission.served import GangApi

Writer: TypeAlias = Callable[[Replica, Setting], list[Object]]

WRITERS: Mapping[GangApi, Writer] = MappingProxyType(
    {
        GangApi.KAI: kai.objects,
        GangApi.NATIVE: native.objects,
        GangApi.GROVE: grove.objects,
        GangApi.LEADER_WORKER_SET: lws.objects,
        GangApi.PLAIN: plain.objects,
    }
)
