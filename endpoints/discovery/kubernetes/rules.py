"""What requests to a pool should be: InferenceObjective and InferenceModelRewrite objects. Pure.

Rewrites: a rule that names the model beats one that names none, across all objects; of equals the
object that was made first wins, and within an object the rule that comes first. Weights are
shares of their sum; where none is given, all targets are equal.

Source: llm-d ``apix/v1alpha2``; GIE proposal 1816.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from endpoints.kubernetes.resources import Object

_POOL_KIND: Final = "InferencePool"


@dataclass(frozen=True, slots=True)
class ModelTargets:
    """The models that requests for one go to, with their weights, and the object that says so."""

    models: tuple[str, ...]
    weights: tuple[int, ...]
    by: str


@dataclass(frozen=True, slots=True)
class PoolRules:
    """A pool's objectives, by name, and its rewrites, by model; ``other``: of any other model."""

    priorities: Mapping[str, int] = field(default_factory=dict)
    rewrites: Mapping[str, ModelTargets] = field(default_factory=dict)
    other: ModelTargets | None = None

    def __bool__(self) -> bool:
        return bool(self.priorities or self.rewrites or self.other is not None)

    def targets_of(self, model: str) -> ModelTargets | None:
        """Where requests for a model go; None: where they say."""
        return self.rewrites.get(model, self.other)


NO_RULES: Final = PoolRules()


def rules_of(
    namespace: str, pool: str, objectives: Iterable[Object], rewrites: Iterable[Object]
) -> PoolRules:
    """What the objects of the pool's namespace that refer to it say."""
    priorities: dict[str, int] = {}
    for item in objectives:
        if _refers(item, namespace, pool):
            priorities.setdefault(item["metadata"]["name"], item["spec"].get("priority") or 0)
    exact: dict[str, ModelTargets] = {}
    other: ModelTargets | None = None
    for item in sorted((one for one in rewrites if _refers(one, namespace, pool)), key=_age):
        for rule in item["spec"].get("rules") or ():
            targets = _targets(item, rule)
            if targets is None:
                continue
            models = [
                (match.get("model") or {}).get("value") for match in rule.get("matches") or ()
            ]
            if not models and other is None:
                other = targets
            for model in models:
                if model:
                    exact.setdefault(model, targets)
    if not priorities and not exact and other is None:
        return NO_RULES
    return PoolRules(priorities, exact, other)


def _refers(item: Object, namespace: str, pool: str) -> bool:
    reference = (item.get("spec") or {}).get("poolRef") or {}
    return (
        (item["metadata"].get("namespace") or "default") == namespace
        and reference.get("name") == pool
        and (reference.get("kind") or _POOL_KIND) == _POOL_KIND
    )


def _age(item: Object) -> tuple[str, str]:
    metadata = item["metadata"]
    return metadata.get("creationTimestamp") or "", metadata["name"]


def _targets(item: Object, rule: Object) -> ModelTargets | None:
    targets = rule.get("targets") or ()
    models = tuple(one["modelRewrite"] for one in targets if one.get("modelRewrite"))
    if not models:
        return None
    weights = tuple(one.get("weight") or 0 for one in targets if one.get("modelRewrite"))
    equal = tuple(1 for _ in models)
    return ModelTargets(models, weights if any(weights) else equal, item["metadata"]["name"])
