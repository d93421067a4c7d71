"""Visiting one endpoint: what is asked for, in which order, and what the fleet is told.

One visit is: the health page, unless a request just ended well there, which says as much; when it
is well, what is due of the models, the cache size and the metrics; then the verdict. The verdict
comes last so that an endpoint that returns is chosen only once its models are known and a restart
has been told. Only the first visits, while the engine is still being found out, give the verdict
before they look further.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from endpoints.engines import ENGINES, GENERIC, CacheShape, Engine, detect, engine_named
from endpoints.engines.engine import MODELS_PATH
from endpoints.probes.complaints import Complaints
from endpoints.probes.fetch import Fetcher, FetchError, Page
from endpoints.probes.health import HealthState, Outcome, Phase
from endpoints.probes.jsonpage import decode_json
from endpoints.probes.models import read_models
from endpoints.probes.pacing import Pacer
from endpoints.probes.restart import Lifetime, restart_sign
from endpoints.probes.settings import ProbeSettings
from routing.fleet import Fleet, Health, Load

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all visitors share. ``on_restart`` hears the name of an endpoint whose cache is new."""

    fleet: Fleet
    settings: ProbeSettings
    clock: Callable[[], float]
    on_restart: Callable[[str], None]


class Visitor:
    """Visits one endpoint, again and again, and remembers what it saw."""

    def __init__(
        self, name: str, engine: str | None, fetcher: Fetcher, surroundings: Surroundings
    ) -> None:
        """ValueError when ``engine`` (None: to be detected) is not known."""
        self._name = name
        self._fetcher = fetcher
        self._fleet = surroundings.fleet
        self._settings = surroundings.settings
        self._clock = surroundings.clock
        self._on_restart = surroundings.on_restart
        self._configured = engine_named(engine) if engine is not None else None
        self._engine = self._configured
        self._complaints = Complaints(logger, name)
        self._health = HealthState()
        self._health_path: str | None = None
        self._metrics_path: str | None = None
        self._owner: str | None = None
        self._cache: CacheShape | None = None
        self._lifetime: Lifetime | None = None
        self._was_refused = False
        interval, seldom = self._settings.interval, self._settings.models_interval
        self._metrics_pace = Pacer(0.0, interval, seldom)
        self._models_pace = Pacer(seldom, interval, seldom)
        self._facts_pace = Pacer(seldom, interval, seldom)
        self._detection_pace = Pacer(seldom, interval, seldom)

    async def visit(self) -> float:
        """One visit; returns the seconds until the next one is wanted."""
        self._heed_data_plane()
        outcome, reason = await self._check_health()
        if outcome is Outcome.WELL:
            if self._health.phase is not Phase.HEALTHY:
                self._models_pace.reset()  # it may serve others than before it was away
            await self._read_models()
            if self._engine is not None:
                await self._read_load(self._engine)
            if self._was_refused:
                self._note_lifetime(None)
            if self._heed_data_plane():
                return self._settings.recheck_first  # it failed since we asked: ask again
        self._conclude(outcome, reason)
        if outcome is Outcome.WELL and self._engine is None:
            await self._detect_engine()
        return self._health.wait(outcome, self._settings)

    # -- health ----------------------------------------------------------------------------

    async def _check_health(self) -> tuple[Outcome, str]:
        """Ask the first health page that exists; the list of models will do for one."""
        state = self._fleet.get(self._name)
        if self._health.phase is Phase.HEALTHY and state is not None:
            since = self._clock() - state.answered_at
            if since < self._settings.interval:
                return Outcome.WELL, "it answered a request"
        engine = self._engine or GENERIC
        known = self._health_path
        paths = (known,) if known is not None else (*engine.health_paths, MODELS_PATH)
        self._health_path = None
        reason = ""
        for path in paths:
            try:
                page = await self._fetcher.get(path)
            except FetchError as error:
                return error.outcome, str(error)
            if page.ok:
                self._health_path = path
                return Outcome.WELL, f"GET {path} answered {page.status}"
            reason = page.problem
            if not page.absent:
                break
        return Outcome.UNWELL, reason

    def _heed_data_plane(self) -> bool:
        """Whether requests failed there although the last check was well: then it is doubted."""
        state = self._fleet.get(self._name)
        doubted = (
            state is not None
            and state.health is Health.UNHEALTHY
            and self._health.phase is Phase.HEALTHY
        )
        if doubted:
            self._health = self._health.doubted()
        return doubted

    def _conclude(self, outcome: Outcome, reason: str) -> None:
        before, self._health = self._health, self._health.after(outcome, self._settings)
        if outcome is Outcome.REFUSED and before.phase is not Phase.UNKNOWN:
            self._was_refused = True
        phase = self._health.phase
        if phase is not before.phase:
            level = logging.INFO if phase is Phase.HEALTHY else logging.WARNING
            extra = {"endpoint": self._name, "health": phase.value, "reason": reason}
            logger.log(level, "%s is %s: %s", self._name, phase.value, reason, extra=extra)
        state = self._fleet.get(self._name)
        revived = outcome is Outcome.WELL and phase is Phase.HEALTHY
        if state is None or (revived and state.health is Health.HEALTHY):
            return  # an unneeded verdict would end the data plane's count of failures in a row
        if revived or phase is Phase.UNHEALTHY:
            self._fleet.observe_health(self._name, revived, self._clock(), reason)

    # -- models ----------------------------------------------------------------------------

    async def _read_models(self) -> None:
        if not self._models_pace.due(self._clock()):
            return
        try:
            listed = read_models((await self._ok_page(MODELS_PATH)).body)
        except (FetchError, ValueError) as error:
            self._models_pace.failed(self._clock())
            self._complaints.report("models", str(error))
            return
        now = self._clock()
        self._models_pace.succeeded(now)
        self._complaints.settled("models")
        self._owner = listed.owner
        self._fleet.observe_models(self._name, listed.models, now)

    # -- load ------------------------------------------------------------------------------

    async def _read_load(self, engine: Engine) -> None:
        await self._read_facts(engine)
        if engine.read is None or not self._metrics_pace.due(self._clock()):
            return
        try:
            page = await self._metrics_page(engine)
        except FetchError as error:
            self._metrics_pace.failed(self._clock())
            self._complaints.report("metrics", str(error))
            return
        at = self._clock()
        self._metrics_pace.succeeded(at)
        self._complaints.settled("metrics")
        scrape = engine.exposition.read(page.body)
        if scrape.malformed:
            self._complaints.report("metric lines", "some can't be read; they are left out")
        else:
            self._complaints.settled("metric lines")
        self._note_lifetime(Lifetime.read(scrape, engine.counters))
        self._fleet.observe_load(self._name, self._with_cache(engine.read(scrape, at)))

    async def _metrics_page(self, engine: Engine) -> Page:
        """The first page that has metrics of the engine; `FetchError` when there is none."""
        known = self._metrics_path
        self._metrics_path = None
        problem = ""
        for path in (known,) if known is not None else engine.metrics_paths:
            page = await self._fetcher.get(path)
            if page.ok and engine.recognises_metrics(page.body):
                self._metrics_path = path
                return page
            found = f"GET {path}: no {engine.name} metrics there" if page.ok else page.problem
            problem = f"{found}; {engine.metrics_hint}"
        raise FetchError(Outcome.UNWELL, problem)

    async def _read_facts(self, engine: Engine) -> None:
        """The cache size, from engines that tell it on a page apart from their metrics."""
        facts = engine.facts
        if facts is None or facts.cache is None or not self._facts_pace.due(self._clock()):
            return
        try:
            page = await self._ok_page(facts.path)
            self._cache = facts.cache(decode_json(page.body, dict[str, object]))
        except (FetchError, ValueError) as error:
            self._facts_pace.failed(self._clock())
            self._complaints.report("cache size", str(error))
            return
        now = self._clock()
        self._facts_pace.succeeded(now)
        self._complaints.settled("cache size")
        if self._cache is not None and self._lifetime is None:
            self._fleet.observe_load(self._name, self._with_cache(Load(now)))

    def _with_cache(self, load: Load) -> Load:
        if self._cache is None or load.cache_tokens is not None:
            return load
        return replace(
            load,
            cache_block_tokens=self._cache.block_tokens,
            cache_blocks=self._cache.blocks,
        )

    def _note_lifetime(self, lifetime: Lifetime | None) -> None:
        """Compare with the process seen before; None: this one shows no marks."""
        before, self._lifetime = self._lifetime, lifetime
        was_refused, self._was_refused = self._was_refused, False
        if before is not None and lifetime is not None:
            sign = restart_sign(before, lifetime, was_refused=was_refused)
        else:
            sign = "it refused connections for a while" if was_refused else None
        if sign is None:
            return
        extra = {"endpoint": self._name, "reason": sign}
        logger.warning("%s was restarted: %s", self._name, sign, extra=extra)
        self._on_restart(self._name)
        self._engine = self._configured  # another engine may answer there now
        self._models_pace.reset()
        self._facts_pace.reset()
        self._detection_pace.reset()

    # -- engine ----------------------------------------------------------------------------

    async def _detect_engine(self) -> None:
        """Find out the engine, then read its load; generic when all pages say otherwise."""
        if not self._detection_pace.due(self._clock()):
            return
        engine, certain = await self._look_for_engine()
        if engine is None and not certain:
            self._detection_pace.failed(self._clock())
            self._complaints.report("engine", "not found out yet: some pages gave no answer")
            return
        self._complaints.settled("engine")
        self._engine = engine or GENERIC
        self._metrics_path = None
        self._metrics_pace.reset()
        extra = {"endpoint": self._name, "engine": self._engine.name}
        logger.info("%s runs %s", self._name, self._engine.name, extra=extra)
        self._fleet.observe_engine(self._name, self._engine.name)
        await self._read_load(self._engine)

    async def _look_for_engine(self) -> tuple[Engine | None, bool]:
        """The engine its pages show, and whether every page needed to tell gave an answer."""
        certain = True
        for path in dict.fromkeys(p for e in ENGINES.values() for p in e.metrics_paths):
            page = await self._page(path)
            certain = certain and page is not None
            engine = detect(metrics=page.body) if page is not None and page.ok else None
            if engine is not None:
                return engine, True
        if (engine := detect(owner=self._owner)) is not None:
            return engine, True
        for path in [e.facts.path for e in ENGINES.values() if e.facts is not None]:
            page = await self._page(path)
            certain = certain and page is not None
            engine = _detect_by_facts(page) if page is not None and page.ok else None
            if engine is not None:
                return engine, True
        return None, certain

    # -- pages -----------------------------------------------------------------------------

    async def _page(self, path: str) -> Page | None:
        """The page, of any status; None when there is no answer."""
        try:
            return await self._fetcher.get(path)
        except FetchError:
            return None

    async def _ok_page(self, path: str) -> Page:
        """The page; `FetchError` when its status is not 2xx."""
        page = await self._fetcher.get(path)
        if not page.ok:
            raise FetchError(Outcome.UNWELL, page.problem)
        return page


def _detect_by_facts(page: Page) -> Engine | None:
    try:
        return detect(facts={page.path: decode_json(page.body, dict[str, object])})
    except ValueError:
        return None
