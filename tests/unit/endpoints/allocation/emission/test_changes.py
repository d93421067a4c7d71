"""Applying what differs, and leaving nothing behind."""

import copy

from endpoints.allocation.emission.changes import changes, name_of, written
from endpoints.allocation.emission.identity import Object
from endpoints.allocation.emission.served import GangApi
from tests.support.plans import replica, setting


def objects(*replicas: int, option: str = "a100", revision: str = "r1") -> list[Object]:
    some = [replica(index, revision, option=option) for index in replicas]
    return written(some, setting(), GangApi.KAI)


def kinds(items: tuple[Object, ...]) -> list[str]:
    return [item["kind"] for item in items]


def test_templates_come_before_groups_before_pods() -> None:
    made = changes(objects(0), [], [])
    assert kinds(made.applied) == ["ResourceClaimTemplate"] * 2 + ["PodGroup"] + ["Pod"] * 3


def test_nothing_changes_twice() -> None:
    existing = objects(0, 1)
    assert not changes(objects(0, 1), existing, ["llama-0", "llama-1"])


def test_a_replica_that_goes_takes_all_that_is_its_own() -> None:
    made = changes(objects(0), objects(0, 1), ["llama-0"])
    assert not made.applied
    assert kinds(made.deleted) == ["Pod"] * 3 + ["PodGroup"]
    assert all("llama-1" in item["metadata"]["name"] for item in made.deleted)


def test_the_last_replica_takes_the_templates_too() -> None:
    made = changes([], objects(0), [])
    assert kinds(made.deleted) == ["Pod"] * 3 + ["PodGroup"] + ["ResourceClaimTemplate"] * 2


def test_templates_stay_as_long_as_a_pod_names_them() -> None:
    old = objects(0, option="h100")
    new = objects(1, option="a100", revision="r2")
    made = changes(new, old, ["llama-0", "llama-1"])
    assert not made.deleted
    names = {name_of(item) for item in made.applied}
    existing = old + [item for item in new if name_of(item) in names]
    made = changes(new, existing, ["llama-1"])
    assert kinds(made.deleted) == ["Pod"] * 3 + ["PodGroup"] + ["ResourceClaimTemplate"]
    (template,) = (item for item in made.deleted if item["kind"] == "ResourceClaimTemplate")
    assert template["metadata"]["name"].startswith("llama-decode-")


def test_what_changed_is_applied_but_pods_are_not() -> None:
    existing = copy.deepcopy(objects(0))
    for item in existing:
        item["metadata"]["annotations"]["inferway.dev/content"] = "something else"
    assert kinds(changes(objects(0), existing, ["llama-0"]).applied) == ["PodGroup"]


def test_a_lost_pod_is_made_again_and_a_going_one_is_waited_for() -> None:
    existing = objects(0)
    lost = existing.pop()
    made = changes(objects(0), existing, ["llama-0"])
    assert [name_of(item) for item in made.applied] == [name_of(lost)]
    going = copy.deepcopy(lost)
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert not changes(objects(0), [*existing, going], ["llama-0"])
    assert name_of(going) not in {name_of(item) for item in changes([], [going], []).deleted}
