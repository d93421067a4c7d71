"""The scaling bench: its bars, its patterns, and a short play."""

from dataclasses import replace

import pytest

from bench.scaling.checks import Mean, better_on_both, checks, cost_at
from bench.scaling.contenders import CONTENDERS, HPA, OURS, chosen
from bench.scaling.figures import curves, figures, turns
from bench.scaling.patterns import conversations
from bench.scaling.scenes import CHAT, made
from bench.scaling.simulation import play
from endpoints.scaling.policies import make_scaling_policy


def mean(contender: str, attainment: float, hours: float, family: str = HPA) -> Mean:
    return Mean("spike", contender, family, attainment, hours, 1.0, 0.0, 0.0, 1.0, 1.0, 0.01)


def test_better_on_both_needs_more_than_a_tie() -> None:
    ours = mean(OURS, 0.95, 20.0, OURS)
    assert better_on_both(mean("a", 0.97, 18.0), ours)
    assert not better_on_both(mean("a", 0.97, 21.0), ours)
    assert not better_on_both(mean("a", 0.951, 19.9), ours)


def test_the_best_hpa_is_a_line_between_its_targets() -> None:
    hpas = [mean("a", 0.90, 10.0), mean("b", 0.98, 18.0), mean("beaten", 0.89, 17.0)]
    assert cost_at(hpas, 0.94) == pytest.approx(14.0)
    assert cost_at(hpas, 0.99) == 18.0
    assert cost_at(hpas, 0.80) == 10.0
    found = checks([mean(OURS, 0.94, 11.0, OURS), *hpas])
    assert [check.ok for check in found] == [True, True, True]
    assert not checks([mean(OURS, 0.94, 13.0, OURS), *hpas])[-1].ok


def test_turns_count_changes_of_direction() -> None:
    assert turns([1, 2, 3, 2, 1, 2]) == 2


def test_contenders_are_chosen_by_name() -> None:
    assert chosen([OURS], full=False)[0].name == OURS
    assert len(chosen(None, full=True)) == len(CONTENDERS)
    with pytest.raises(ValueError, match="no contender"):
        chosen(["nobody"], full=False)


def test_a_short_play_loses_nobody_and_repeats_itself() -> None:
    workload = conversations("calm", lambda at: 1.5, 400.0, 1)
    scene = replace(made(workload, CHAT, 0), startup=(30.0, 60.0))
    outcomes = []
    for _ in range(2):
        played = play(scene, make_scaling_policy(OURS), 15.0, 1)
        outcomes.append(replace(played, wall_seconds=0.0).targets)
        found = figures(played, CHAT)
        assert found.failed == 0  # held while the first endpoint started
        assert found.endpoint_hours > 0.0
        assert curves(played, 60.0)[0].ready == 0.0
    assert outcomes[0] == outcomes[1]
