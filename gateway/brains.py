"""The brains there are: one router for each pool of endpoints, and whose a request is."""

from collections.abc import Iterator, Mapping

from endpoints.discovery.kubernetes.rules import PoolRules
from routing.endpoint import ServedModel
from routing.router import Router


class Brains:
    """Routers by the name of their pool, in the order in which the pools came.

    With one pool, whatever a client asks for is its business. With several, a request belongs
    to the first pool whose rules rewrite its model, else to the first whose endpoints serve it,
    else to the first whose rules take any model.
    """

    def __init__(self, routers: Mapping[str, Router] | None = None) -> None:
        self._routers: dict[str, Router] = dict(routers or {})
        self._only: Router | None = None
        self._rules: dict[Router, PoolRules] = {}
        self._changed()

    def add(self, pool: str, router: Router) -> None:
        """A pool joined."""
        self._routers[pool] = router
        self._changed()

    def remove(self, pool: str) -> None:
        """A pool left; unknown names are ignored."""
        router = self._routers.pop(pool, None)
        if router is not None:
            self._rules.pop(router, None)
        self._changed()

    def set_rules(self, pool: str, rules: PoolRules) -> None:
        """What requests to a pool should be, from now on; unknown names are ignored."""
        router = self._routers.get(pool)
        if router is None:
            return
        if rules:
            self._rules[router] = rules
        else:
            self._rules.pop(router, None)

    def rules_of(self, router: Router) -> PoolRules | None:
        """What requests to that router's pool should be; None: nothing special."""
        return self._rules.get(router) if self._rules else None

    def only(self, pool: str) -> "Brains | None":
        """A pool's router by itself, with the rules that it has here, now and later."""
        router = self._routers.get(pool)
        if router is None:
            return None
        alone = Brains({pool: router})
        alone._rules = self._rules
        return alone

    def of(self, pool: str) -> Router | None:
        """The router of a pool; None when there is no such pool."""
        return self._routers.get(pool)

    def __iter__(self) -> Iterator[tuple[str, Router]]:
        """Names and routers, as of now: pools may come and go meanwhile."""
        return iter(tuple(self._routers.items()))

    def __len__(self) -> int:
        return len(self._routers)

    def serving(self, model: str | None) -> Router | None:
        """Who answers for a model, None: for a call that names none.

        Where no pool serves it, the first one says so. None: there is no pool at all.
        """
        if self._only is not None:
            return self._only
        first: Router | None = None
        if self._rules and model is not None:
            for router, rules in self._rules.items():
                if model in rules.rewrites:
                    return router
        for router in self._routers.values():
            if router.fleet.candidates(model) is not None:
                return router
            if first is None or (model is not None and router.fleet.knows(model)):
                first = router
        if model is not None and (first is None or not first.fleet.knows(model)):
            for router, rules in self._rules.items():
                if rules.other is not None:
                    return router
        return first

    def knows(self, model: str) -> bool:
        """Whether some pool serves a model, or did when its endpoints were well."""
        return any(router.fleet.knows(model) for router in self._routers.values())

    def models(self) -> dict[str, ServedModel]:
        """Every model that a client can ask for, by name."""
        found: dict[str, ServedModel] = {}
        for router in self._routers.values():
            for name, model in router.fleet.models().items():
                found.setdefault(name, model)
        return found

    def url_of(self, model: str) -> str | None:
        """The address of the endpoint for ``model`` with the fewest requests; None without any."""
        router = self.serving(model)
        return None if router is None else router.fleet.url_of(model)

    def base_of(self, model: str) -> str:
        """The base model that ``model`` is an adapter of; itself when it is none, or unknown."""
        router = self.serving(model)
        return model if router is None else router.fleet.base_of(model)

    def _changed(self) -> None:
        self._only = next(iter(self._routers.values())) if len(self._routers) == 1 else None
