"""What a request through Envoy says: its call, its pool, and what the rules make of it."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from endpoints.discovery.kubernetes.rules import PoolRules
from gateway.apis.call import Api, ApiError, Call
from gateway.apis.depth import deeper_than
from gateway.apis.renaming import NameBack
from gateway.apis.splice import without_fields
from gateway.extproc.addresses import AddressBook
from gateway.extproc.context import ProcessorContext
from gateway.extproc.partial import read_part
from gateway.extproc.wire import Fields
from gateway.following import renamed, set_priority, shed_if_busy, target_of
from gateway.pickerbooks import Rewrite
from routing.router import Router

_REWRITE: Final = b"x-gateway-model-name-rewrite"
_NAMED: Final = b"x-gateway-model-name"


class Asked(NamedTuple):
    """A request as far as it is known when an endpoint is chosen for it."""

    fields: Fields
    body: bytes
    whole: bool
    """``body`` is all of it."""
    subset: tuple[str, ...] | None
    observed: bool
    """The response's body will come by."""
    streamed: bool
    """And it will come as the endpoint sends it, so that a first token can be seen."""


class Said(NamedTuple):
    """What it says. ``body`` is without what only we may set, with the model's real name."""

    call: Call
    body: bytes
    router: Router
    book: AddressBook
    asked_model: str
    """Before any rewrite."""
    renaming: NameBack | None
    """Puts that name back into the answer; None: it needs no other."""
    priority: int


def read(context: ProcessorContext, fields: Mapping[bytes, bytes], api: Api, asked: Asked) -> Said:
    """Read it; ``fields`` are the gRPC call's. `ApiError` for what can't be, or is shed."""
    call, body = _body(context, api, asked)
    router, book = context.router, context.book
    if context.pools is not None:
        pool = context.pools.of(fields, asked.subset, call.model)
        router, book = pool.router, pool.book
    rules = context.rules_of(router)
    asked_model, renaming = "", None
    if call.model is not None:
        asked_model = call.model
        model, decided = _target(context, asked_model, rules, asked.fields)
        if model != asked_model and asked.whole:
            context.books.rewritten(Rewrite(decided, asked_model, model))
            call, body = renamed(api, body, model)
            renaming = NameBack(model, asked_model)
    priority = 0
    if rules is not None or context.objectives:
        priority = set_priority(rules, context.objectives, call, asked.fields)
        if context.admissions is None:
            shed_if_busy(priority, router, call.model, context.now())
    return Said(call, body, router, book, asked_model, renaming, priority)


def refuse_internal(name: str) -> None:
    """`ApiError` (400) for a field that only the gateway may set."""
    raise ApiError(400, "internal_field", f"Only the gateway may set {name}.", param=name)


def _body(context: ProcessorContext, api: Api, asked: Asked) -> tuple[Call, bytes]:
    """The call that the body holds, and the body without what only we may set."""
    limit = context.max_json_depth
    if limit is not None and deeper_than(asked.body, limit):
        raise ApiError(400, "json_too_deep", f"The body nests more than {limit} levels deep.")
    if not asked.whole:
        call = read_part(asked.body)
    elif asked.body or asked.fields.get(b":method") == b"POST":
        call = api.read(asked.body)
    else:
        call = Call(model=None)
    if call.model is None and (named := asked.fields.get(_NAMED)):
        call = Call(model=named.decode("latin-1"), streamed=call.streamed)
    if not call.internal_fields:
        return call, asked.body
    if context.internal_fields == "refuse":
        refuse_internal(call.internal_fields[0])
    return call, without_fields(asked.body, call.internal_fields)


def _target(
    context: ProcessorContext, model: str, rules: PoolRules | None, fields: Fields
) -> tuple[str, str]:
    """The model that a request for ``model`` goes to, and who says so."""
    configured = context.target_of(model)
    if configured != model:
        return configured, model
    if rules is not None and (targets := rules.targets_of(model)) is not None:
        return target_of(rules, model, context.dice), targets.by
    wanted = fields.get(_REWRITE)
    return (wanted.decode("latin-1"), _REWRITE.decode()) if wanted else (model, "")
