"""One CEL selector: compiled once, asked about many devices.

The library is `common-expression-language`; `rewriting` and `functions` make its environment that
of Kubernetes (``device`` with driver, attributes, capacity). An outcome is a match, a miss, an
error (which in Kubernetes aborts the allocation of the whole claim), or undecidable: an
expression, or a value that it meets, which can't be judged here as Kubernetes would.
"""

import logging
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from endpoints.allocation.selectors.functions import Doubt, functions
from endpoints.allocation.selectors.rewriting import DRIVER, Reference, macro_variables, rewrite
from endpoints.allocation.selectors.tokens import UnreadableError, text_of, tokens_of

if TYPE_CHECKING:
    import cel

MOST_BYTES = 10 * 1024
_COMPILED = 4096
_TYPES = frozenset(
    {"int", "uint", "double", "bool", "string", "bytes", "list", "map", "null_type", "type"}
)
_BUILT_IN = frozenset(
    {
        *("size", "contains", "startsWith", "endsWith", "matches", "type", "dyn"),
        *("int", "uint", "double", "string", "bool", "bytes", "duration", "timestamp"),
        *("@in", "@not_strictly_false"),
    }
)
_LETTERWISE = frozenset({"size", "matches", "find", "findAll", "charAt", "substring", "indexOf"})
_OURS = frozenset(functions(Doubt()))
# The library logs a warning whenever a function fails, which is a normal outcome here.
_log = logging.getLogger("cel")
_log.addHandler(logging.NullHandler())
_log.propagate = False


class Outcome(NamedTuple):
    """``kind`` is match, miss, error or undecidable; ``detail`` says why."""

    kind: str
    detail: str = ""


MATCH = Outcome("match")
MISS = Outcome("miss")


class DeviceView(NamedTuple):
    """A device as expressions see it: values by domain and name, in the library's plain types."""

    driver: str
    attributes: Mapping[str, Mapping[str, Any]]
    capacity: Mapping[str, Mapping[str, Any]]
    multiple: bool = False


class Selector:
    """A compiled selector. ``problem`` is why it can't be decided here, empty when it can.

    ``references`` is all of the device that it looks at, beside driver and multiple allocations.
    """

    def __init__(self, expression: str) -> None:
        self.expression = expression
        self.problem = ""
        self.references: frozenset[Reference] = frozenset()
        self._domains: dict[str, set[str]] = {}
        self._program: cel.Program | None = None
        self._context: type[cel.Context] | None = None
        self._doubt = Doubt()
        self._callables = functions(self._doubt)
        self._functions: set[str] = set()
        try:
            self._compile()
        except UnreadableError as error:
            self.problem = f"{shortened(expression)!r}: {error}"

    def _compile(self) -> None:
        # It brings a terminal library with it: whoever judges no selector need not wait for that.
        import cel  # noqa: PLC0415

        self._context = cel.Context
        if len(self.expression.encode()) > MOST_BYTES:
            raise UnreadableError(f"it has more than {MOST_BYTES} bytes")
        rewritten = rewrite(tokens_of(self.expression))
        try:
            program = cel.compile(text_of(rewritten.tokens))
        except ValueError as error:
            lines = str(error).splitlines()
            raise UnreadableError(lines[0].partition("ERROR: ")[2] or lines[0]) from None
        used = program.references()
        self._functions = set(used["functions"])
        strange = {
            name
            for name in self._functions - _BUILT_IN - _OURS
            if not name.startswith(("_", "!", "-"))
        } | (set(used["variables"]) - _TYPES - {"device"} - macro_variables(rewritten.tokens))
        if strange:
            raise UnreadableError(f"{', '.join(sorted(strange))} is not known here")
        if not self.expression.isascii() and self._functions & _LETTERWISE:
            raise UnreadableError("it counts letters that are not ASCII")
        self._program = program
        self._domains = rewritten.domains
        self.references = rewritten.references

    def outcome(self, device: DeviceView) -> Outcome:
        """Whether the device is selected."""
        program, context = self._program, self._context
        if program is None or context is None:
            return Outcome("undecidable", self.problem)
        if self._functions & _LETTERWISE and not _plain(device):
            return Outcome("undecidable", f"{shortened(self.expression)!r}: text beyond ASCII")
        doubt = self._doubt
        doubt.reason = ""
        variables = {
            "device": {
                "driver": device.driver,
                "allowMultipleAllocations": device.multiple,
                "attributes": self._with_domains("attributes", device.attributes, device.driver),
                "capacity": self._with_domains("capacity", device.capacity, device.driver),
                "attributesDomains": device.attributes,
                "capacityDomains": device.capacity,
            }
        }
        try:
            result = program.execute(context(variables, self._callables))
        except KeyError as error:
            result = Outcome("error", f"no such key: {error.args[0]}")
        except (RuntimeError, TypeError, ValueError, ArithmeticError) as error:
            if "not a valid regex" in str(error):
                doubt.reason = "a pattern that can't be read here"
            result = Outcome("error", _said(error))
        if doubt.reason:
            return Outcome("undecidable", f"{shortened(self.expression)!r}: {doubt.reason}")
        if isinstance(result, Outcome):
            return Outcome("error", f"{shortened(self.expression)!r}: {result.detail}")
        if not isinstance(result, bool):
            return Outcome("error", f"{shortened(self.expression)!r}: gives no true or false")
        return MATCH if result else MISS

    def _with_domains(
        self, kind: str, values: Mapping[str, Mapping[str, Any]], driver: str
    ) -> dict[str, Mapping[str, Any]]:
        """The map with an empty one for each domain that is asked for and not there."""
        empty: Mapping[str, Any] = {}
        asked = {driver if name == DRIVER else name for name in self._domains[kind]}
        return {**dict.fromkeys(asked, empty), **values}


@lru_cache(maxsize=_COMPILED)
def compile_selector(expression: str) -> Selector:
    """The selector of an expression; equal expressions share one."""
    return Selector(expression)


def shortened(expression: str, most: int = 60) -> str:
    """An expression for a message."""
    text = " ".join(expression.split())
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _said(error: Exception) -> str:
    """The first line of the library's message, without its advice."""
    first = str(error).splitlines()[0]
    return first.partition(". CEL does not")[0].partition(". Check ")[0]


def _plain(device: DeviceView) -> bool:
    return all(
        value.isascii()
        for values in device.attributes.values()
        for value in values.values()
        if isinstance(value, str)
    )
