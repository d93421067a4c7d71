"""What `inferway plan` found, for people."""

from collections.abc import Iterator

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from endpoints.allocation.plan import Plan, PodPlan, Refusal
from gateway.planning.answer import Answer


def answer(found: Answer) -> Iterator[RenderableType]:
    """Part by part."""
    gang = found.capacity.gang
    shown = ", ".join(f"{count} {kind}" for kind, count in sorted(found.counts.items()))
    yield f"[bold]{escape(gang.pool)}[/bold] on {shown or 'nothing'}"
    yield f"levels of {_levels(found)}"
    for note in found.notes:
        yield f"[yellow]note:[/yellow] {escape(note)}"
    for number, plan in enumerate(found.placed, 1):
        yield ""
        yield from _placed(number, plan)
    refusals = found.refused.refusals if found.refused else _of_last(found)
    if found.refused is not None:
        yield ""
        yield (
            f"[red]replica {len(found.placed) + 1} can't be placed:[/red] "
            f"{escape(found.refused.reason)}"
        )
    if refusals:
        yield ""
        yield _refused(refusals)
    yield ""
    yield from _feasible(found)


def _levels(found: Answer) -> str:
    trees = (" > ".join(level.name for level in tree) for tree in found.scheme.trees)
    return escape(f"{found.scheme.name}: {'; '.join(trees)}")


def _of_last(found: Answer) -> tuple[Refusal, ...]:
    return found.placed[-1].refusals if found.placed else ()


def _placed(number: int, plan: Plan) -> Iterator[RenderableType]:
    where = f"in {plan.domain}" if plan.domain else "anywhere"
    rivals = plan.candidates - 1
    yield (
        f"[bold]replica {number}[/bold] {escape(where)}, cost {plan.cost:g} an hour"
        + (f"; the best of {plan.candidates} domains that could hold it" if rivals > 0 else "")
    )
    table = Table()
    for heading in ("pod", "node", "domains", "devices"):
        table.add_column(heading, overflow="fold")
    for pod in plan.pods:
        table.add_row(f"{pod.role} {pod.index}", pod.node, _domains(pod), _devices(pod))
    yield table
    details = "; ".join(term.detail for term in plan.score if term.detail)
    yield escape(f"score: {details}")
    for (role, request), option in plan.options:
        yield escape(f"role {role}, request {request}: takes the alternative {option}")
    for role, domain in plan.role_domains:
        yield escape(f"role {role}: all pods in {domain}")
    for one in plan.evictions:
        victim = escape(f"{one.pool}/{one.replica}")
        yield f"[yellow]needs the idle replica {victim} gone[/yellow]"
    if plan.fragile:
        yield (
            f"[yellow]on {escape(', '.join(plan.fragile))} the claims have to select these very "
            "devices:[/yellow] the scheduler takes the first that fit"
        )


def _domains(pod: PodPlan) -> str:
    seen = dict.fromkeys(str(one) for one in pod.domains if one.value != pod.node)
    return escape(", ".join(seen))


def _devices(pod: PodPlan) -> str:
    parts = []
    for grant in pod.grants:
        names = ", ".join(one.device for one in grant.devices)
        parts.append(f"{grant.request}: {names}{' (looked at)' * grant.admin_access}")
    return escape("\n".join(parts))


def _refused(refusals: tuple[Refusal, ...]) -> Table:
    table = Table()
    table.add_column("not in", overflow="fold")
    table.add_column("reason", overflow="fold")
    for one in refusals:
        table.add_row(escape(str(one.domain) if one.domain else "anywhere"), escape(one.reason))
    return table


def _feasible(found: Answer) -> Iterator[RenderableType]:
    feasible = found.feasible
    more = " or more" if feasible.capped else ""
    plural = "" if feasible.now == 1 and not feasible.capped else "s"
    yield f"feasible: [bold]{feasible.now}[/bold]{more} replica{plural} now" + (
        f", {feasible.after_preemption} when idle replicas of lower priority go"
        if feasible.after_preemption != feasible.now
        else ""
    )
    yield escape(f"limited by: {feasible.reason}")
    if found.advice is not None:
        held = found.advice.holding
        nodes = ", ".join(sorted({pod.node for pod in found.advice.moved.pods}))
        yield escape(f"moving {held.pool}/{held.replica} to {nodes} would make room for one")
