"""The gateway's own readiness: one way through its states."""

from gateway.readiness import Readiness, ReadinessState


def test_it_starts_unready_and_says_what_it_waits_for() -> None:
    readiness = Readiness()
    assert readiness.state is ReadinessState.STARTING
    readiness.starting("waiting for the first health checks")
    assert readiness.reason == "waiting for the first health checks"


def test_ready_has_no_reason_and_ends_the_start() -> None:
    readiness = Readiness()
    readiness.ready()
    readiness.starting("too late")
    assert readiness.state is ReadinessState.READY
    assert readiness.reason == ""


def test_draining_is_for_good() -> None:
    readiness = Readiness()
    readiness.draining("stopping")
    readiness.ready()
    assert readiness.state is ReadinessState.DRAINING
    assert readiness.reason == "stopping"
