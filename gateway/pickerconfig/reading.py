"""A file -> what it means here, or everything that is wrong with it."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import msgspec

from gateway import strictyaml
from gateway.checking import Problem, problems_in
from gateway.pickerconfig.flowcontrol import admission_of, notes_on
from gateway.pickerconfig.plugins import (
    BUILT_IN,
    FILTERED,
    PICKERS,
    PREDICTING,
    SCORERS,
    TEST_SELECTION,
    supported,
)
from gateway.pickerconfig.schema import GROUPS, KIND, Config, Plugin, Profile, Reference
from gateway.settings import AdmissionSettings
from routing.policies import make_policy
from routing.policies.policy import Policy
from routing.policies.scored import Picker, Scored, Weighted

_FLOW_CONTROL = "flowControl"
_GATES = ("dataLayer", "enableLegacyMetrics", _FLOW_CONTROL)
_DEFAULT = (
    Plugin(type="queue-scorer"),
    Plugin(type="kv-cache-utilization-scorer"),
    Plugin(type="prefix-cache-scorer"),
)
_DEFAULT_PROFILE = Profile(
    name="default",
    plugins=(
        Reference(plugin_ref="queue-scorer", weight=2.0),
        Reference(plugin_ref="kv-cache-utilization-scorer", weight=2.0),
        Reference(plugin_ref="prefix-cache-scorer", weight=3.0),
    ),
)
"""What an empty file means there since the weights were chosen by a benchmark."""


class PickerConfigError(ValueError):
    """A file that can't be used: where it came from, and all that is wrong with it."""

    def __init__(self, source: str, problems: Iterable[Problem]) -> None:
        self.source = source
        self.problems = tuple(problems)
        super().__init__(source, self.problems)

    def __str__(self) -> str:
        return "\n  ".join([f"{self.source} can't be used:", *map(str, self.problems)])


@dataclass(frozen=True, slots=True)
class PickerConfig:
    """What a file means: a policy, and how many fallbacks stand beside its first choice.

    ``admission``: the line before the pool; None: there is to be none. ``notes``: what is in the
    file and done differently here, or not at all.
    """

    make_policy: Callable[[], Policy]
    fallbacks: int
    test_selection: bool
    admission: AdmissionSettings | None
    notes: tuple[str, ...]


def load(path: Path | str) -> PickerConfig:
    """The meaning of a file; `PickerConfigError`."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        problem = Problem("", f"the file can't be read: {error.strerror or error}")
        raise PickerConfigError(str(path), [problem]) from error
    return read(content, str(path))


def read(content: bytes, source: str) -> PickerConfig:
    """The meaning of a file's content; ``source`` is what errors call it."""
    try:
        data = strictyaml.parse(content)
    except strictyaml.YamlError as error:
        raise PickerConfigError(source, [Problem("", str(error))]) from error
    problems = [*problems_in(data, Config)]
    if problems:
        raise PickerConfigError(source, problems)
    config = msgspec.convert(data, Config)
    problems = [*_problems(config)]
    if problems:
        raise PickerConfigError(source, problems)
    return _meaning(config)


# --- what is wrong ------------------------------------------------------------------------------


def _problems(config: Config) -> Iterator[Problem]:
    if config.kind != KIND:
        yield Problem("kind", f"{config.kind!r} is not {KIND}")
    if config.api_version not in GROUPS:
        yield Problem("apiVersion", f"{config.api_version!r} is none of {', '.join(GROUPS)}")
    for at, gate in enumerate(config.feature_gates):
        if gate not in _GATES:
            yield Problem(f"featureGates[{at}]", f"unknown gate {gate!r}; {_choice(gate, _GATES)}")
    try:
        admission_of(config.flow_control)
    except ValueError as error:
        yield Problem("flowControl", str(error))
    names: dict[str, int] = {}
    for at, plugin in enumerate(config.plugins):
        yield from _plugin_problems(plugin, f"plugins[{at}]")
        first = names.setdefault(plugin.known_as, at)
        if first != at:
            yield Problem(f"plugins[{at}].name", f"{plugin.known_as!r} is plugins[{first}] already")
    if len(config.scheduling_profiles) > 1:
        yield Problem(
            "schedulingProfiles",
            f"{len(config.scheduling_profiles)} profiles; one is supported (no disaggregation yet)",
        )
    for at, profile in enumerate(config.scheduling_profiles):
        pickers = 0
        for number, reference in enumerate(profile.plugins):
            where = f"schedulingProfiles[{at}].plugins[{number}]"
            if reference.plugin_ref not in names:
                yield Problem(
                    f"{where}.pluginRef",
                    f"no plugin {reference.plugin_ref!r}; {_choice(reference.plugin_ref, names)}",
                )
                continue
            plugin = config.plugins[names[reference.plugin_ref]]
            pickers += plugin.type in PICKERS
            if reference.weight is not None and not 0 <= reference.weight < float("inf"):
                yield Problem(f"{where}.weight", f"{reference.weight} is no weight")
        if pickers > 1:
            yield Problem(f"schedulingProfiles[{at}].plugins", "there may be one picker")


def _plugin_problems(plugin: Plugin, where: str) -> Iterator[Problem]:
    if plugin.type not in supported():
        yield Problem(
            f"{where}.type",
            f"{plugin.type!r} is not supported; {_choice(plugin.type, supported())}",
        )
    elif plugin.type in SCORERS:
        try:
            SCORERS[plugin.type](plugin.parameters or {})
        except ValueError as error:
            yield Problem(f"{where}.parameters", str(error))
    elif plugin.type in PICKERS:
        try:
            _endpoints_of(plugin)
        except ValueError as error:
            yield Problem(f"{where}.parameters", str(error))


def _choice(name: str, known: Iterable[str]) -> str:
    known = list(known)
    close = get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    return f"{hint}supported: {', '.join(known) or 'none'}"


def _endpoints_of(picker: Plugin) -> int:
    """How many endpoints a picker names."""
    parameters = picker.parameters or {}
    for name in parameters:
        if name != "maxNumOfEndpoints":
            raise ValueError(f"there is no parameter {name!r}; it has maxNumOfEndpoints")
    count = parameters.get("maxNumOfEndpoints", 1)
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ValueError(f"maxNumOfEndpoints must be a whole number from 1, not {count!r}")
    return count


# --- what it means ------------------------------------------------------------------------------


def _meaning(config: Config) -> PickerConfig:
    plugins = config.plugins or _DEFAULT
    by_name = {plugin.known_as: plugin for plugin in plugins}
    if config.scheduling_profiles:
        profile = config.scheduling_profiles[0]
    elif config.plugins:
        profile = Profile(
            name="default", plugins=tuple(Reference(plugin_ref=name) for name in by_name)
        )
    else:
        profile = _DEFAULT_PROFILE
    notes, admission = [], None
    if _FLOW_CONTROL in config.feature_gates:
        admission = admission_of(config.flow_control)
        notes += notes_on(config.flow_control)
    elif config.flow_control is not None:
        notes.append("flowControl: of no effect without the feature gate of that name, as there")
    notes += [
        f"{plugin.type}: {BUILT_IN[plugin.type]}" for plugin in plugins if plugin.type in BUILT_IN
    ]
    used = [(by_name[one.plugin_ref], one.weight) for one in profile.plugins]
    picker: Picker = "max"
    count = 1
    for plugin, _ in used:
        if plugin.type in PICKERS:
            picker, count = PICKERS[plugin.type], _endpoints_of(plugin)
    predicting = [plugin.type for plugin, _ in used if plugin.type in PREDICTING | FILTERED]
    if predicting:
        notes.append(f"{', '.join(predicting)}: the policy predicted_time takes their place")

    def scored() -> Policy:
        if predicting:
            return make_policy("predicted_time")
        weighted = [
            Weighted(
                plugin.known_as,
                SCORERS[plugin.type](plugin.parameters or {}),
                1.0 if weight is None else weight,
            )
            for plugin, weight in used
            if plugin.type in SCORERS
        ]
        return Scored(weighted, picker)

    return PickerConfig(
        make_policy=scored,
        fallbacks=count - 1,
        test_selection=any(plugin.type == TEST_SELECTION for plugin in plugins),
        admission=admission,
        notes=tuple(notes),
    )
