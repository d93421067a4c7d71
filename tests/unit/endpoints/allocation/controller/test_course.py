"""Which replicas there should be: growing, shrinking without losing work, replacing, budgets."""

from dataclasses import dataclass, field
from typing import Any

from endpoints.allocation.controller.course import (
    PROMISE_SECONDS,
    Outcome,
    Situation,
    course,
    needed_of,
    wanted_of,
)
from endpoints.allocation.controller.members import Member
from endpoints.allocation.controller.record import Record, revision_of
from endpoints.allocation.controller.watchdog import Cause, Finding, Remedy, Verdict
from endpoints.allocation.plan import Eviction
from endpoints.scaling.ceiling import NEEDED_ANNOTATION
from tests.support.capacities import CountingPlanner, capacity, member


@dataclass
class Story:
    """Passes over one pool, whose pods do as they are told."""

    planner: CountingPlanner
    spec: dict[str, Any] = field(default_factory=dict)
    records: tuple[Record, ...] = ()
    members: dict[str, list[Member]] = field(default_factory=dict)
    in_flight: dict[str, float | None] = field(default_factory=dict)
    now: float = 0.0

    def pass_(self, *, after: float = 1.0, run: bool = True, **more: Any) -> Outcome:
        """One pass; then pods of dropped replicas are gone and, with ``run``, the others run."""
        self.now += after
        one = capacity(**self.spec)
        outcome = course(
            Situation(
                capacity=one,
                revision=revision_of(one),
                records=self.records,
                members=self.members,
                in_flight=self.in_flight,
                **more,
            ),
            self.planner,
            self.now,
        )
        self.records = outcome.records
        names = {record.name for record in outcome.records}
        self.members = {name: pods for name, pods in self.members.items() if name in names}
        for record in outcome.records:
            if run and not record.draining:
                self.members[record.name] = [member(record.name, record.plan.pods[0].node)]
        return outcome

    def want(self, wanted: int, **more: Any) -> Outcome:
        self.spec["replicas"] = {"max": 9, "wanted": wanted}
        return self.pass_(**more)


def names(records: tuple[Record, ...]) -> list[str]:
    return [record.name for record in records]


def reasons(outcome: Outcome) -> list[str]:
    return [one.reason for one in outcome.happenings]


def test_it_grows_as_far_as_there_is_room_and_says_why_not_further() -> None:
    story = Story(CountingPlanner(["n1", "n2"]))
    outcome = story.want(3)
    assert names(outcome.placed) == ["llama-0", "llama-1"]
    assert outcome.limit == "no node has a free GPU"
    assert outcome.wanted == 3
    assert outcome.feasible.now == 0
    assert reasons(outcome) == ["Placed", "Placed"]
    story.planner.nodes.append("n3")
    assert names(story.pass_().placed) == ["llama-0", "llama-1", "llama-2"]


def test_nothing_happens_twice() -> None:
    story = Story(CountingPlanner(["n1", "n2"]))
    first = story.want(2)
    again = story.pass_()
    assert again.records == first.records
    assert not again.happenings


def test_bounds() -> None:
    assert wanted_of(capacity(replicas={"min": 2, "max": 5})) == 2
    assert wanted_of(capacity(replicas={"min": 2, "max": 5, "wanted": 0})) == 2
    assert wanted_of(capacity(replicas={"min": 0, "max": 5, "wanted": 4})) == 4
    assert wanted_of(capacity(replicas={"min": 0, "wanted": 40})) == 40


def test_a_replica_with_work_is_drained_first() -> None:
    story = Story(CountingPlanner(["n1", "n2"]))
    story.want(2)
    outcome = story.want(1)
    (draining,) = [record for record in outcome.records if record.draining]
    story.in_flight = {draining.name: 3.0}
    for _ in range(50):
        assert draining.name in names(story.pass_(after=10.0).records)
    story.in_flight = {draining.name: 0.0}
    outcome = story.pass_()
    assert names(outcome.records) == ["llama-0" if draining.name == "llama-1" else "llama-1"]
    assert reasons(outcome) == ["Drained"]
    assert len(story.planner.ledger) == 1


def test_draining_ends_with_its_grace_period_and_says_what_was_cut() -> None:
    story = Story(CountingPlanner(["n1"]))
    story.want(1)
    story.want(0)
    story.in_flight = {"llama-0": 2.0}
    assert names(story.pass_(after=599.0).records) == ["llama-0"]
    outcome = story.pass_(after=2.0)
    assert not outcome.records
    (happening,) = outcome.happenings
    assert happening.warning
    assert "2 requests" in happening.message


def test_unknown_work_is_work() -> None:
    story = Story(CountingPlanner(["n1"]))
    story.want(1)
    story.want(0)
    assert names(story.pass_(after=500.0).records) == ["llama-0"]
    assert not story.pass_(after=101.0).records


def test_a_moment_passes_before_an_idle_replica_goes() -> None:
    story = Story(CountingPlanner(["n1"]))
    story.want(1)
    story.in_flight = {"llama-0": 0.0}
    story.want(0)
    assert story.pass_(after=1.0).records
    assert not story.pass_(after=1.5).records


def test_what_never_ran_goes_at_once_and_first() -> None:
    story = Story(CountingPlanner(["n1", "n2"]))
    story.want(1)
    story.want(2, run=False)
    outcome = story.want(1)
    assert names(outcome.records) == ["llama-0"]
    assert reasons(outcome) == ["Cancelled"]


def test_the_cheapest_go_first() -> None:
    story = Story(CountingPlanner(["n1", "n2", "n3"]))
    story.want(3)
    outcome = story.want(1, cheapest=["llama-1", "llama-2", "llama-0"])
    assert names(outcome.placed) == ["llama-0"]


def test_a_draining_replica_is_taken_back_before_another_is_started() -> None:
    story = Story(CountingPlanner(["n1", "n2", "n3"]))
    story.want(2)
    story.in_flight = {"llama-0": 1.0, "llama-1": 1.0}
    story.want(1)
    outcome = story.want(2)
    assert names(outcome.placed) == ["llama-0", "llama-1"]
    assert reasons(outcome) == ["Restored"]


def verdict(remedy: Remedy, cause: Cause = Cause.TAINTED) -> Verdict:
    return Verdict("llama-0", remedy, Finding(cause, ("n1",), "gpu-0 is broken"), 0.0)


def test_a_condemned_replica_drains_while_another_is_planned() -> None:
    story = Story(CountingPlanner(["n1", "n2"]))
    story.want(1)
    outcome = story.pass_(verdicts=[verdict(Remedy.DRAIN)])
    assert names(outcome.records) == ["llama-0", "llama-1"]
    assert names(outcome.placed) == ["llama-1"]
    assert reasons(outcome) == ["DevicesTainted", "Placed"]
    story.want(2)
    assert "llama-0" not in names(story.pass_().placed), "a condemned replica does not come back"


def test_a_lost_place_is_planned_anew_at_once() -> None:
    story = Story(CountingPlanner(["n1"]))
    story.want(1)
    story.members = {"llama-0": [member("llama-0", None, ready=False)]}
    story.planner.nodes = ["n2"]
    outcome = story.pass_(verdicts=[verdict(Remedy.REPLAN, Cause.PENDING)])
    assert [record.plan.pods[0].node for record in outcome.records] == ["n2"]
    assert names(outcome.records) == ["llama-1"], "the old one's pods still hold its name"


def test_a_warning_changes_nothing() -> None:
    story = Story(CountingPlanner(["n1"]))
    before = story.want(1).records
    outcome = story.pass_(verdicts=[verdict(Remedy.WARN, Cause.DEVICES_GONE)])
    assert outcome.records == before
    assert outcome.happenings[0].warning


def test_budgets_bound_it() -> None:
    story = Story(CountingPlanner(["n1", "n2", "n3"]), {"pods": 2, "budget": {"devices": 5}})
    outcome = story.want(3)
    assert len(outcome.placed) == 2
    assert "budget is 5 devices" in outcome.limit
    story = Story(CountingPlanner(["n1", "n2"]), {"budget": {"costPerHour": 1.5}})
    assert "1.5 an hour" in story.want(2).limit


def test_idle_replicas_of_others_are_asked_to_go_before_anything_is_placed() -> None:
    planner = CountingPlanner([])
    planner.idle["n1"] = Eviction("other", "other-3")
    story = Story(planner)
    outcome = story.want(1)
    assert outcome.evictions == (Eviction("other", "other-3"),)
    assert not outcome.records
    assert "other-3" in outcome.limit
    planner.idle.clear()
    planner.nodes.append("n1")
    assert names(story.pass_().placed) == ["llama-0"]


def test_what_others_make_room_for_is_promised_to_nobody_else() -> None:
    planner = CountingPlanner(["n0"])
    story = Story(planner)
    story.want(1)
    planner.idle["n1"] = Eviction("other", "other-3")
    assert names(story.want(2).records) == ["llama-0"]
    (promise,) = [one for one in planner.ledger.active(story.now) if "promised" in one.key]
    assert promise.plan.pods[0].node == "n1"
    story.want(1)
    assert not [one for one in planner.ledger.active(story.now) if "promised" in one.key]


def test_a_promise_outlives_a_pass_in_which_nothing_can_be_planned() -> None:
    planner = CountingPlanner([])
    story = Story(planner)
    planner.idle["n1"] = Eviction("other", "other-3")
    story.want(1)
    planner.idle.clear()  # its pods are gone, and its claims not yet
    story.pass_(after=PROMISE_SECONDS - 2.0)
    (promise,) = [one for one in planner.ledger.active(story.now) if "promised" in one.key]
    assert promise.plan.pods[0].node == "n1"
    planner.nodes.append("n1")
    assert names(story.pass_().placed) == ["llama-0"]
    assert not [one for one in planner.ledger.active(story.now) if "promised" in one.key]


def test_a_promise_that_nobody_renews_ends() -> None:
    planner = CountingPlanner([])
    story = Story(planner)
    planner.idle["n1"] = Eviction("other", "other-3")
    story.want(1)
    planner.idle.clear()
    story.pass_(after=PROMISE_SECONDS / 2)
    story.pass_(after=PROMISE_SECONDS / 2)
    assert not [one for one in planner.ledger.active(story.now) if "promised" in one.key]


def test_a_need_is_what_the_scaler_says_within_the_bounds() -> None:
    one = capacity(replicas={"min": 1, "max": 6, "wanted": 3})
    assert needed_of(one, {}) == 3
    assert needed_of(one, {NEEDED_ANNOTATION: "5"}) == 5
    assert needed_of(one, {NEEDED_ANNOTATION: "50"}) == 6
    assert needed_of(one, {NEEDED_ANNOTATION: "2"}) == 3
    assert needed_of(one, {NEEDED_ANNOTATION: "-1"}) == 3


def test_a_preempted_replica_drains() -> None:
    story = Story(CountingPlanner(["n1"]))
    story.want(1)
    outcome = story.pass_(preempted={"llama-0": "chat needs it"})
    assert outcome.records[0].draining
    assert "chat needs it" in outcome.happenings[0].message


def test_a_new_revision_replaces_replicas_one_by_one_where_there_is_room() -> None:
    story = Story(CountingPlanner(["n1", "n2", "n3"]))
    story.want(2)
    story.spec["template"] = {"spec": {"containers": [{"name": "server", "image": "server:2"}]}}
    outcome = story.pass_(run=False)
    assert len(outcome.placed) == 3, "a new one first"
    assert reasons(outcome) == ["Replacing"]
    assert len(story.pass_(run=True).placed) == 3, "and it is waited for"
    story.in_flight = {"llama-0": 0.0, "llama-1": 0.0}
    outcome = story.pass_()
    assert len(outcome.placed) == 2
    (draining,) = [record for record in outcome.records if record.draining]
    assert draining.revision != revision_of(capacity(**story.spec))
    for _ in range(12):
        outcome = story.pass_(after=5.0)
    assert {record.revision for record in outcome.records} == {revision_of(capacity(**story.spec))}
    assert len(outcome.records) == 2
    assert not story.pass_().happenings


def test_without_room_an_old_one_makes_it() -> None:
    story = Story(CountingPlanner(["n1", "n2"]))
    story.want(2)
    story.in_flight = {"llama-0": 0.0, "llama-1": 0.0}
    story.spec["template"] = {"spec": {"containers": [{"name": "server", "image": "server:2"}]}}
    outcome = story.pass_()
    assert len(outcome.placed) == 1
    fewest = 2
    for _ in range(20):
        outcome = story.pass_(after=5.0)
        fewest = min(fewest, len(outcome.placed))
    assert fewest == 1
    assert len(outcome.placed) == 2
    assert all(record.revision == revision_of(capacity(**story.spec)) for record in story.records)


def test_bounds_and_urgency_are_no_new_revision() -> None:
    plain = revision_of(capacity())
    assert plain == revision_of(capacity(replicas={"min": 3}, priority=7, budget={"devices": 9}))
    assert plain != revision_of(capacity(count=2))
    assert plain != revision_of(capacity(scheduler={"type": "Plain"}))
