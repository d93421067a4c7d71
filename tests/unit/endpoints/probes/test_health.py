import pytest

from endpoints.probes.health import HealthState, Outcome, Phase
from endpoints.probes.settings import ProbeSettings

SETTINGS = ProbeSettings(unhealthy_after=3, healthy_after=2)


def after(*outcomes: Outcome, state: HealthState | None = None) -> HealthState:
    state = state or HealthState()
    for outcome in outcomes:
        state = state.after(outcome, SETTINGS)
    return state


HEALTHY = after(Outcome.WELL, Outcome.WELL)
UNHEALTHY = after(Outcome.UNWELL, Outcome.UNWELL, Outcome.UNWELL)


def test_thresholds() -> None:
    assert after(Outcome.WELL).phase is Phase.UNKNOWN
    assert HEALTHY.phase is Phase.HEALTHY
    assert after(Outcome.UNWELL, Outcome.SILENT).phase is Phase.UNKNOWN
    assert UNHEALTHY.phase is Phase.UNHEALTHY
    assert after(Outcome.UNWELL, Outcome.SILENT, state=HEALTHY).phase is Phase.HEALTHY
    assert after(*[Outcome.SILENT] * 3, state=HEALTHY).phase is Phase.UNHEALTHY


def test_a_streak_is_broken_by_the_other_outcome() -> None:
    wavering = [Outcome.UNWELL, Outcome.UNWELL, Outcome.WELL] * 5
    assert after(*wavering, state=HEALTHY).phase is Phase.HEALTHY
    wavering = [Outcome.WELL, Outcome.UNWELL] * 5
    assert after(*wavering, state=UNHEALTHY).phase is Phase.UNHEALTHY


@pytest.mark.parametrize("state", [HealthState(), HEALTHY])
def test_one_refusal_is_enough(state: HealthState) -> None:
    assert after(Outcome.REFUSED, state=state).phase is Phase.UNHEALTHY


def test_a_doubted_endpoint_must_prove_itself() -> None:
    doubted = HEALTHY.doubted()
    assert doubted.phase is Phase.UNHEALTHY
    assert after(Outcome.WELL, state=doubted).phase is Phase.UNHEALTHY
    assert after(Outcome.WELL, Outcome.WELL, state=doubted).phase is Phase.HEALTHY


def waits(outcome: Outcome, count: int) -> list[float]:
    state, found = HEALTHY, []
    for _ in range(count):
        state = state.after(outcome, SETTINGS)
        found.append(state.wait(outcome, SETTINGS))
    return found


def test_a_well_endpoint_is_visited_every_interval() -> None:
    assert HEALTHY.wait(Outcome.WELL, SETTINGS) == SETTINGS.interval
    assert after(Outcome.WELL).wait(Outcome.WELL, SETTINGS) == SETTINGS.recheck_first


@pytest.mark.parametrize("outcome", [Outcome.UNWELL, Outcome.REFUSED])
def test_a_machine_that_answers_is_asked_often(outcome: Outcome) -> None:
    assert waits(outcome, 5) == [0.1, 0.2, 0.4, 0.4, 0.4]


def test_a_silent_machine_is_asked_less_and_less_up_to_a_bound() -> None:
    assert waits(Outcome.SILENT, 7) == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]
    assert waits(Outcome.SILENT, 3000)[-1] == 2.0
