from endpoints.probes.pacing import Pacer, backoff


def test_backoff_doubles_up_to_its_ceiling() -> None:
    assert [backoff(0.5, n, 3.0) for n in (1, 2, 3, 4, 5000)] == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_a_page_is_due_at_first_and_then_every_interval() -> None:
    pacer = Pacer(10.0, 1.0, 8.0)
    assert pacer.due(100.0)
    pacer.succeeded(100.0)
    assert not pacer.due(109.9)
    assert pacer.due(110.0)


def test_failures_back_off_and_a_success_ends_that() -> None:
    pacer = Pacer(10.0, 1.0, 4.0)
    found = []
    for _ in range(4):
        pacer.failed(0.0)
        found.append(next(second for second in range(20) if pacer.due(float(second))))
    assert found == [1, 2, 4, 4]
    pacer.succeeded(0.0)
    pacer.failed(0.0)
    assert pacer.due(1.0)


def test_reset_makes_it_due() -> None:
    pacer = Pacer(10.0, 1.0, 4.0)
    pacer.succeeded(0.0)
    pacer.reset()
    assert pacer.due(0.0)
