"""One priority's requests, in fair order."""

from routing.admission.entry import Entry, LaneKey
from routing.admission.fairqueue import FairQueue

LANE = LaneKey("m", None)


def entry(tenant: str, cost: float = 1.0, since: float = 0.0) -> Entry:
    return Entry(LANE, 0, tenant, cost=cost, size=1, since=since, deadline=since + 60.0)


def served(queue: FairQueue, count: int) -> str:
    """Whom the next turns go to."""
    order = []
    for _ in range(count):
        head = queue.head
        assert head is not None
        order.append(head.tenant)
        queue.take(head)
    return "".join(order)


def filled(weights: dict[str, float], **requests: int) -> FairQueue:
    queue = FairQueue(weights)
    for tenant, count in requests.items():
        for _ in range(count):
            queue.push(entry(tenant))
    return queue


def test_one_tenant_is_served_in_order_of_arrival() -> None:
    queue = FairQueue({})
    entries = [entry("a") for _ in range(5)]
    for one in entries:
        queue.push(one)
    for one in entries:
        assert queue.head is one
        queue.take(one)
    assert queue.head is None
    assert not queue


def test_a_flood_delays_another_tenant_by_one_request() -> None:
    queue = filled({}, a=1_000)
    queue.push(entry("b"))
    assert "b" in served(queue, 2)


def test_tenants_take_turns_and_weights_are_shares() -> None:
    assert served(filled({}, a=9, b=9), 8).count("a") == 4
    assert served(filled({"a": 3.0}, a=90, b=90), 40).count("a") == 30


def test_work_is_shared_not_requests() -> None:
    queue = FairQueue({})
    for _ in range(40):
        queue.push(entry("long", cost=10.0))
        queue.push(entry("s", cost=1.0))
    order = []
    for _ in range(33):
        head = queue.head
        assert head is not None
        order.append(head.tenant)
        queue.take(head)
    assert order.count("long") in {3, 4}


def test_idleness_earns_nothing() -> None:
    queue = filled({}, a=100)
    served(queue, 50)
    for _ in range(50):
        queue.push(entry("b"))
    assert served(queue, 20).count("b") in {10, 11}


def test_who_leaves_is_not_charged() -> None:
    queue = filled({}, a=10)
    dropped = [entry("b", cost=1_000.0) for _ in range(5)]
    for one in dropped:
        queue.push(one)
    for one in dropped:
        queue.drop(one)
    queue.push(entry("b"))
    assert "b" in served(queue, 2)


def test_who_is_served_out_of_turn_pays_for_it() -> None:
    queue = filled({}, a=10, b=10)
    for _ in range(4):
        oldest_of_b = queue.youngest_of("b")
        assert oldest_of_b is not None
        queue.take(oldest_of_b)
    assert served(queue, 4) == "aaaa"


def test_memory_follows_who_waits_not_who_ever_came() -> None:
    queue = FairQueue({})
    stays = entry("stays")
    queue.push(stays)
    for number in range(5_000):
        one = entry(f"tenant {number}")
        queue.push(one)
        queue.drop(one)
    for number in range(5_000):
        one = entry(f"served {number}", cost=5.0)
        queue.push(one)
        queue.take(one)
    assert len(queue._tenants) < 200
    assert len(queue._heap) < 200
    assert queue.head is stays
