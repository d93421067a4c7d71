"""The scaling bench: its bars, its patterns, and a short play."""

from dataclasses import replace
from random import Random

import msgspec
import pytest

from bench.replay.presets import PRESETS
from bench.replay.timeline import Timeline
from bench.replay.workload import Arrival, Workload
from bench.scaling.checks import Mean, better_on_both, checks, cost_at, hindsight, together
from bench.scaling.contenders import CONTENDERS, HPA, MARK, OURS, chosen
from bench.scaling.figures import curves, figures, turns
from bench.scaling.fleet import ElasticFleet
from bench.scaling.foresight import WINDOW, Foresight
from bench.scaling.patterns import conversations
from bench.scaling.scenes import CHAT, made
from bench.scaling.simulation import play
from endpoints.scaling.policies import make_scaling_policy
from routing.fleet import Fleet
from routing.policies import DEFAULT_POLICY, make_policy
from routing.prefix.index import PrefixIndex
from routing.router import Router, RouterSettings


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


def test_who_knows_the_future_is_a_mark_and_no_rival() -> None:
    ours = mean(OURS, 0.94, 11.0, OURS)
    hpas = [mean("a", 0.90, 10.0), mean("b", 0.98, 18.0)]
    mark = mean("m", 0.99, 7.0, MARK)
    assert [check.ok for check in checks([ours, *hpas, mark])] == [True, True]
    assert not checks([ours, *hpas, mean("rival", 0.99, 7.0)])[0].ok
    (told,) = hindsight([ours, *hpas, mark])
    assert "needs 14.0 endpoint-hours" in told
    assert "ours 11.0 (21.4% fewer), who knows all arrivals 7.0 (50.0% fewer)" in told
    (told,) = hindsight([ours, *hpas])
    assert "arrivals" not in told
    assert not list(hindsight([ours, mark]))


def test_foresight_starts_in_time_and_keeps_nobody_longer() -> None:
    busy = tuple(Arrival(600.0 + at, 100, 10, (1,)) for at in range(300))
    knowing = Foresight(Workload("a busy time", busy, 512), 0.4)
    assert knowing.needed(300.0) == 0
    assert knowing.needed(750.0) == 3
    where = made(Workload("a busy time", busy, 512), CHAT, 0)
    seen = play(replace(where, startup=(60.0, 60.0)), knowing, 15.0, 1)
    wanted = dict(seen.targets)
    assert max(wanted.values()) == 3
    first = min(at for at, count in wanted.items() if count == 3)
    assert 600.0 - 180.0 - WINDOW <= first < 600.0
    assert max(wanted) >= 900.0 - WINDOW


def test_one_hpa_target_has_to_do_for_both_patterns() -> None:
    def on(pattern: str, contender: str, attainment: float, hours: float, requests: float) -> Mean:
        family = OURS if contender == OURS else HPA
        one = mean(contender, attainment, hours, family)
        return msgspec.structs.replace(one, pattern=pattern, requests=requests)

    found = [
        on("spike", OURS, 0.96, 20.0, 100.0),
        on("spike", "low", 0.97, 22.0, 100.0),
        on("spike", "high", 0.60, 15.0, 100.0),
        on("diurnal", OURS, 0.98, 20.0, 300.0),
        on("diurnal", "low", 0.99, 30.0, 300.0),
        on("diurnal", "high", 0.98, 20.0, 300.0),
        on("diurnal", "elsewhere only", 0.98, 1.0, 300.0),
    ]
    joint = {one.contender: one for one in together(found)}
    assert joint.keys() == {OURS, "low", "high"}
    assert joint[OURS].attainment == pytest.approx(0.975)
    assert joint["low"].endpoint_hours == 52.0
    last = checks(found)[-1]
    assert last.name == "spike and diurnal: endpoint-hours saved, by the best HPA"
    # 0.975 lies between 0.885 and 0.985: 35 + 0.9 x 17 endpoint-hours.
    assert last.value == pytest.approx(100.0 * (1.0 - 40.0 / 50.3))
    assert last.ok
    # One pattern alone has no such check.
    assert not any("saved" in one.name for one in checks(found[:3]))


def test_an_endpoint_that_goes_at_once_costs_nothing_more() -> None:
    router = Router(Fleet(), PrefixIndex(1 << 20), make_policy(DEFAULT_POLICY), RouterSettings())
    fleet = ElasticFleet(
        PRESETS["32b-h100x2"], 512, router, Timeline(), Random(1), (60.0, 60.0), lambda: None
    )
    fleet.scale(3, at_once=True)
    fleet.scale(1)
    assert fleet.paid_seconds(3_600.0) == 3_600.0


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
