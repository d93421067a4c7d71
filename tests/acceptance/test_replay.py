"""`inferway replay` as a user runs it, on little traffic: that it measures and tells, not what."""

import json
from pathlib import Path

from tests.support.processes import run

FEW = ("--policies", "predicted_time,round_robin,clairvoyant", "--requests", "40")


def test_a_quick_look_compares_policies_and_writes_everything(tmp_path: Path) -> None:
    file, html = tmp_path / "replay.json", tmp_path / "replay.html"
    ran = run("replay", *FEW, "--json", str(file), "--html", str(html))
    assert ran.returncode in {0, 1}, ran.stderr
    for word in ("predicted_time", "round_robin", "clairvoyant (exact state)", "goodput", "checks"):
        assert word in ran.stdout
    found = json.loads(file.read_text())
    assert found["parameters"]["seeds"] == [0, 1, 2] and found["parameters"]["events"] == [True]
    assert [load["source"] for load in found["parameters"]["loads"]] == ["sample", "shared-prefix"]
    assert {one["policy"] for one in found["medians"]} == {
        "predicted_time",
        "round_robin",
        "clairvoyant",
    }
    for one in found["rounds"]:
        assert one["failure"] is None
        assert one["figures"]["requests"] == 40 and one["figures"]["completion"] == 1.0
    assert [check["name"].split(": ")[1] for check in found["checks"]] == 2 * [
        "p90 TTFT, of the best rival's",
        "p99 TTFT, of the best rival's",
        "goodput, the best rival's lead",
    ]
    assert ran.returncode == int(not all(check["ok"] for check in found["checks"]))
    page = html.read_text()
    assert page.startswith("<!doctype html>") and "predicted_time" in page


def test_the_same_seed_gives_the_same_figures(tmp_path: Path) -> None:
    figures = []
    for number in range(2):
        file = tmp_path / f"{number}.json"
        ran = run("replay", "shared-prefix", "--rate", "5", *FEW, "--json", str(file))
        assert ran.returncode in {0, 1}, ran.stderr
        rounds = json.loads(file.read_text())["rounds"]
        for one in rounds:
            del one["figures"]["decision_us"], one["figures"]["wall_seconds"]
        figures.append(rounds)
    assert figures[0] == figures[1]


def test_full_plays_every_load_with_and_without_events_and_every_fault(tmp_path: Path) -> None:
    trace = Path(__file__).parents[2] / "bench/traces/sample/mooncake_conversation.jsonl.gz"
    file = tmp_path / "full.json"
    options = ("--policies", "predicted_time,round_robin", "--requests", "20", "--seeds", "1")
    ran = run("replay", str(trace), "--full", *options, "--json", str(file))
    assert ran.returncode in {0, 1}, ran.stderr
    found = json.loads(file.read_text())
    assert all(one["failure"] is None for one in found["rounds"])
    calm = [one for one in found["rounds"] if one["fault"] is None]
    assert len(calm) == (4 + 2 * 4) * 2 * 2, "loads that are drawn are played with four seeds"
    faults = {one["fault"] for one in found["rounds"]} - {None}
    assert len(faults) == len(found["parameters"]["faults"]) >= 5
    assert len(found["checks"]) == 6 * 2 * 3 + len(faults)


def test_bad_input_is_an_error_that_helps(tmp_path: Path) -> None:
    for arguments, word in (
        (("--policies", "predicted_tme"), "did you mean predicted_time"),
        (("/nowhere.jsonl",), "/nowhere.jsonl"),
        (("--fault", "restrat"), "did you mean restart"),
    ):
        ran = run("replay", *arguments)
        assert ran.returncode == 2, arguments
        assert word in ran.stderr
