"""The stand-in on a socket, with switches for everything that can go wrong with it."""

import asyncio
import itertools
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import yaml
from aiohttp import web

from bench.apiserver import discovery, patching, scaling
from bench.apiserver.access import Access
from bench.apiserver.failures import StatusError, bad_request, expired
from bench.apiserver.kinds import Catalogue
from bench.apiserver.selectors import Matches, everything, field_selector, label_selector
from bench.apiserver.store import Item, Store, Writer
from bench.apiserver.target import Target, target_of
from bench.apiserver.values import Json
from bench.apiserver.watching import Watcher, only_metadata

_JSON: Final = "application/json"
_MERGE: Final = "application/merge-patch+json"
_JSON_PATCH: Final = "application/json-patch+json"
_APPLY: Final = "application/apply-patch+yaml"
_YES: Final = frozenset({"1", "true"})
_WRITING: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_UNKINDED: Final = frozenset(
    {"", "apps", "discovery.k8s.io", "coordination.k8s.io", "resource.k8s.io", "autoscaling"}
)
"""Groups whose lists leave out the kind of their items."""


@dataclass(slots=True)
class Trouble:
    """Answer the next ``count`` requests to that resource (None: any) with that status."""

    status: int
    count: int = 1
    resource: str | None = None
    retry_after: int | None = None


@dataclass(eq=False, slots=True)
class _Open:
    """A watch that is being served."""

    wake: asyncio.Event = field(default_factory=asyncio.Event)
    over: bool = False


class ApiServer:
    """`start`, then ``url``. Tests reach into ``store``, ``access`` and ``catalogue`` at will."""

    def __init__(self, store: Store | None = None, *, bookmark_seconds: float = 5.0) -> None:
        self.store = store or Store()
        self.access = Access()
        self.catalogue = Catalogue()
        self.troubles: list[Trouble] = []
        self.bookmark_seconds = bookmark_seconds
        self.requests: dict[str, int] = {}
        """How often each verb was asked for, and served or not."""
        self.port = 0
        self._scheme = "http"
        self._runner: web.AppRunner | None = None
        self._watches: set[_Open] = set()
        self._pages: dict[str, tuple[int, list[Item]]] = {}
        self._tokens = itertools.count(1)

    # --- life and switches -----------------------------------------------------------------------

    @property
    def url(self) -> str:
        """Where it is, once started."""
        return f"{self._scheme}://127.0.0.1:{self.port}"

    @property
    def watches(self) -> int:
        """How many watches are open."""
        return len(self._watches)

    async def start(self, tls: ssl.SSLContext | None = None) -> None:
        """Listen on a free port of loopback; after `stop`, on the same one again."""
        self._scheme = "http" if tls is None else "https"
        app = web.Application(client_max_size=8 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.0)
        await self._runner.setup()
        site = web.TCPSite(
            self._runner, "127.0.0.1", self.port, reuse_address=True, ssl_context=tls
        )
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Be away: every connection ends, nobody listens. The objects stay."""
        self.close_watches()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def close_watches(self) -> None:
        """End every watch, as real servers do from time to time."""
        for watch in self._watches:
            watch.over = True
            watch.wake.set()

    def forget(self) -> None:
        """Compact: versions and continue tokens from before now are answered 410."""
        self.store.forget()
        self._pages.clear()
        for watch in self._watches:
            watch.wake.set()

    # --- answering -------------------------------------------------------------------------------

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        try:
            user = self.access.user_of(request.headers.get("Authorization"))
            said = self._about_itself(request.path)
            if said is not None:
                return _json(said)
            target = target_of(self.catalogue, request.path)
            attempt = target.attempt(user, request.method, request.query)
            self.requests[attempt.verb] = self.requests.get(attempt.verb, 0) + 1
            self._trouble(attempt.resource)
            self.access.check(attempt)
            if request.method in _WRITING:
                item = self._write(request, target, _decoded(request, await request.read()))
                created = request.method == "POST"
                return _json(_versioned(item, target), 201 if created else 200)
            if target.name and request.query.get("watch") not in _YES:
                return _json(self._read(target))
            if request.query.get("watch") in _YES:
                return await self._watch(request, target)
            return _json(self._list(request, target))
        except StatusError as failure:
            headers = {}
            if failure.details and "retryAfterSeconds" in failure.details:
                headers["Retry-After"] = str(failure.details["retryAfterSeconds"])
            return _json(failure.status(), failure.code, headers)

    def _about_itself(self, path: str) -> Item | None:
        parts = [part for part in path.split("/") if part]
        groups = self.catalogue.groups()
        if parts in (["healthz"], ["readyz"], ["livez"]):
            return {"status": "ok"}
        if parts == ["version"]:
            return {"major": "1", "minor": "36", "gitVersion": "v1.36.0-inferway-stand-in"}
        if parts == ["api"]:
            return discovery.core_versions()
        if parts == ["apis"]:
            return discovery.group_list(self.catalogue)
        if parts == ["api", "v1"]:
            return discovery.resource_list(self.catalogue, "", "v1")
        if parts[:1] == ["apis"] and len(parts) in {2, 3} and parts[1] in groups:
            if len(parts) == 2:
                return discovery.group_of(parts[1], groups[parts[1]])
            if parts[2] in groups[parts[1]]:
                return discovery.resource_list(self.catalogue, parts[1], parts[2])
        return None

    def _trouble(self, resource: str) -> None:
        for trouble in self.troubles:
            if trouble.count > 0 and trouble.resource in (None, resource):
                trouble.count -= 1
                details = None
                if trouble.retry_after is not None:
                    details = {"retryAfterSeconds": trouble.retry_after}
                raise StatusError(trouble.status, "InternalError", "as the test wants it", details)

    def _read(self, target: Target) -> Item:
        item = self.store.get(target.kind, target.namespace, target.name)
        if target.subresource == "scale":
            return scaling.scale_of(target.kind, item)
        return _versioned(item, target)

    # --- writing ---------------------------------------------------------------------------------

    def _write(self, request: web.Request, target: Target, body: Json) -> Item:
        kind, query = target.kind, request.query
        dry_run = query.get("dryRun") == "All"
        agent = request.headers.get("User-Agent", "unknown").split("/")[0]
        writer = Writer(query.get("fieldManager") or agent, target.subresource, dry_run)
        if request.method == "DELETE":
            options = body if isinstance(body, dict) else None
            if not target.name:
                raise StatusError(405, "MethodNotAllowed", "deleting collections is not served")
            return self.store.delete(kind, target.namespace, target.name, options, dry_run=dry_run)
        if request.method == "POST":
            self._check_body(target, body)
            return self.store.create(kind, target.namespace, body, writer)
        if target.subresource == "scale":
            return self._scale(request, target, body, writer)
        if request.method == "PUT":
            self._check_body(target, body)
            return self.store.update(kind, target.namespace, target.name, body, writer)
        return self._patch(request, target, body, writer)

    def _patch(
        self,
        request: web.Request,
        target: Target,
        body: Json,
        writer: Writer,
    ) -> Item:
        if request.content_type == _APPLY:
            if "fieldManager" not in request.query:
                raise bad_request("PatchOptions.meta.k8s.io is invalid: fieldManager: Required")
            self._check_body(target, body)
            force = request.query.get("force") in _YES
            place = (target.namespace, target.name)
            return self.store.apply(target.kind, *place, body, writer, force=force)
        item = self.store.get(target.kind, target.namespace, target.name)
        patched = self._patched(request.content_type, item, body)
        return self.store.update(target.kind, target.namespace, target.name, patched, writer)

    def _scale(
        self,
        request: web.Request,
        target: Target,
        body: Json,
        writer: Writer,
    ) -> Item:
        item = self.store.get(target.kind, target.namespace, target.name)
        wanted = body
        if request.method == "PATCH":
            wanted = self._patched(request.content_type, scaling.scale_of(target.kind, item), body)
        changed = scaling.scaled(target.kind, item, wanted)
        plain = Writer(writer.manager, "", writer.dry_run)
        after = self.store.update(target.kind, target.namespace, target.name, changed, plain)
        return scaling.scale_of(target.kind, after)

    @staticmethod
    def _patched(content_type: str, item: Item, body: Json) -> Item:
        if content_type == _MERGE:
            merged: Item = patching.merge_patch(item, body)
            return merged
        if content_type == _JSON_PATCH:
            return patching.json_patch(item, body)
        raise StatusError(
            415,
            "UnsupportedMediaType",
            f"the body of the request was in an unknown format: "
            f"{content_type}; supported are {_JSON_PATCH}, {_MERGE}, {_APPLY}",
        )

    @staticmethod
    def _check_body(target: Target, body: Json) -> None:
        if not isinstance(body, dict):
            raise bad_request("the body is no object")
        wanted = target.kind.api_version(target.version)
        for key, value in (("kind", target.kind.kind), ("apiVersion", wanted)):
            if body.get(key, value) != value:
                raise bad_request(f"the object's {key} is {body[key]!r}, not {value!r}")
        body.setdefault("kind", target.kind.kind)
        body.setdefault("apiVersion", wanted)

    # --- lists and watches -----------------------------------------------------------------------

    def _list(self, request: web.Request, target: Target) -> Item:
        query = request.query
        token = query.get("continue")
        if token:
            if token not in self._pages:
                raise expired(0, self.store.forgotten)
            version, items = self._pages.pop(token)
        else:
            version = self.store.version
            items = self.store.select(target.kind, target.namespace, _matches(query, target))
        metadata: dict[str, Any] = {"resourceVersion": str(version)}
        limit = int(query.get("limit") or 0)
        if limit and len(items) > limit:
            items, rest = items[:limit], items[limit:]
            token = f"{version}-{next(self._tokens)}"
            self._pages[token] = (version, rest)
            metadata["continue"] = token
            metadata["remainingItemCount"] = len(rest)
        if _wants_metadata(request):
            return {
                "kind": "PartialObjectMetadataList",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": metadata,
                "items": [only_metadata(item) for item in items],
            }
        api_version = target.kind.api_version(target.version)
        return {
            "kind": f"{target.kind.kind}List",
            "apiVersion": api_version,
            "metadata": metadata,
            "items": [_listed(item, target) for item in items],
        }

    async def _watch(self, request: web.Request, target: Target) -> web.StreamResponse:
        query = request.query
        given = query.get("resourceVersion") or "0"
        if not given.isdigit():
            raise bad_request(f"invalid resource version {given!r}")
        watcher = Watcher(
            self.store,
            target,
            _matches(query, target),
            int(given),
            metadata_only=_wants_metadata(request),
        )
        initial: list[bytes] = []
        if query.get("sendInitialEvents") in _YES:
            initial = watcher.initial(bookmark=query.get("allowWatchBookmarks") in _YES)
        elif int(given) == 0:
            initial = watcher.initial(bookmark=False)
        elif int(given) < self.store.forgotten:
            raise expired(int(given), self.store.forgotten)
        response = web.StreamResponse(headers={"Content-Type": _JSON})
        await response.prepare(request)
        await self._serve(response, watcher, initial, query)
        return response

    async def _serve(
        self,
        response: web.StreamResponse,
        watcher: Watcher,
        initial: list[bytes],
        query: Mapping[str, str],
    ) -> None:
        loop = asyncio.get_running_loop()
        seconds = float(query.get("timeoutSeconds") or 1800)
        ends = loop.time() + seconds
        bookmarks = query.get("allowWatchBookmarks") in _YES
        watch = _Open()
        self._watches.add(watch)
        unlisten = self.store.listen(watch.wake.set)
        try:
            if initial:
                await response.write(b"".join(initial))
            while not watch.over and loop.time() < ends:
                lines, over = watcher.due()
                if lines:
                    await response.write(b"".join(lines))
                if over:
                    return
                watch.wake.clear()
                quiet = min(self.bookmark_seconds, ends - loop.time())
                try:
                    async with asyncio.timeout(quiet):
                        await watch.wake.wait()
                except TimeoutError:
                    if bookmarks:
                        await response.write(watcher.bookmark())
        except ConnectionError:
            return  # whoever watched is gone
        finally:
            unlisten()
            self._watches.discard(watch)


def _matches(query: Mapping[str, str], target: Target) -> Matches:
    tests = [
        label_selector(query.get("labelSelector") or ""),
        field_selector(query.get("fieldSelector") or ""),
    ]
    if target.name:
        tests.append(field_selector(f"metadata.name={target.name}"))
    tests = [test for test in tests if test is not everything]
    if not tests:
        return everything
    return lambda item: all(test(item) for test in tests)


def _wants_metadata(request: web.Request) -> bool:
    return "as=PartialObjectMetadata" in request.headers.get("Accept", "")


def _versioned(item: Item, target: Target) -> Item:
    if item.get("kind") != target.kind.kind:
        return item  # a Scale
    return {**item, "apiVersion": target.kind.api_version(target.version)}


def _listed(item: Item, target: Target) -> Item:
    if target.kind.group in _UNKINDED:
        return {key: value for key, value in item.items() if key not in {"kind", "apiVersion"}}
    return _versioned(item, target)


def _decoded(request: web.Request, body: bytes) -> Json:
    if not body:
        return None
    try:
        if request.content_type == _APPLY:
            return yaml.safe_load(body)
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, yaml.YAMLError) as error:
        raise bad_request(f"the body can't be read: {error}") from error


def _json(item: Item, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(item), status=status, content_type=_JSON, headers=headers
    )
