"""CEL selectors of devices, as Kubernetes evaluates them, or an honest "not decidable here"."""

from endpoints.allocation.selectors.selector import (
    MATCH,
    MISS,
    DeviceView,
    Outcome,
    Selector,
    compile_selector,
)

__all__ = ["MATCH", "MISS", "DeviceView", "Outcome", "Selector", "compile_selector"]
