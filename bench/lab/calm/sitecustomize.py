"""For the engines' interpreter, on whose PYTHONPATH this folder is: keeps NIXL from spinning.

NIXL's Python agent sets the delay of its progress thread to 0, so that it polls without a pause.
On a GPU server that takes one of a hundred cores; here it is one of two, and transfers stall behind
it. With a millisecond between two looks an idle server takes a fiftieth of a core.
"""

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

_MICROSECONDS = 1000


class _Finder(MetaPathFinder):
    """Finds ``nixl_cu<major>._api`` as usual, and has it changed once it is loaded."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not (fullname.startswith("nixl_cu") and fullname.endswith("._api")):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Calming(spec.loader)
        return spec


class _Calming(Loader):
    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        _calm(module)


def _calm(module: Any) -> None:  # noqa: ANN401 - a module that we don't have
    """Give the module bindings whose agents' progress threads pause."""
    bindings = module.nixlBind
    configuration: Any = bindings.nixlAgentConfig

    class AgentConfig(configuration):  # type: ignore[misc]
        def __setattr__(self, name: str, value: object) -> None:
            super().__setattr__(name, value or _MICROSECONDS if name == "pthrDelay" else value)

    class Bindings:
        nixlAgentConfig = AgentConfig  # noqa: N815 - NIXL's name

        def __getattr__(self, name: str) -> object:
            return getattr(bindings, name)

    module.nixlBind = Bindings()


sys.meta_path.insert(0, _Finder())
