"""The benches as a user runs them, on little work: that they measure and tell, not what."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def bench(file: Path, *arguments: str) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """A bench to its end, and what it wrote. The search path has no rival in it."""
    done = subprocess.run(
        [sys.executable, "-m", "bench", *arguments, "--json", str(file)],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        env={"PATH": "/usr/bin:/bin"},
    )
    assert done.returncode in {0, 1}, done.stderr
    return done, json.loads(file.read_text())


def test_overhead_measures_every_kind_of_work_and_verifies_it(tmp_path: Path) -> None:
    done, found = bench(
        tmp_path / "overhead.json",
        *("overhead", "--gateway", "inferway", "--gateway", "direct"),
        *("--rounds", "1", "--scale", "0.01", "--scenario", "unary-4k-c32"),
        *("--scenario", "streams", "--scenario", "long-220k-c20", "--interpreted"),
    )
    assert done.returncode == 0, done.stdout
    assert found["machine"]["cores"] >= 1 and found["parameters"]["scale"] == 0.01
    medians = {(one["gateway"], one["scenario"]): one["values"] for one in found["medians"]}
    assert len(medians) == 8
    for (gateway, scenario), values in medians.items():
        assert values["errors"] == values["bodies_changed"] == 0
        assert values["bodies_sent"] == values["bodies_received"] > 0
        assert values["requests_per_second"] > 0 and values["client_cpu_us_per_request"] > 0
        assert (values["cpu_us_per_request"] is None) == (gateway == "direct")
        assert (values["cpu_us_per_chunk"] is None) == (
            gateway == "direct" or "streams" not in scenario
        )
    assert medians["inferway", "streams-10000"]["bytes_per_stream"] is not None
    assert all(check["ok"] for check in found["checks"])
    assert "CPU us/req" in done.stdout


def test_a_rival_that_is_not_there_is_named_and_fails_the_checks(tmp_path: Path) -> None:
    if Path(sys.executable).with_name("vllm-router").exists():
        pytest.skip("the rival is installed here")
    done, found = bench(
        tmp_path / "absent.json",
        *("overhead", "--gateway", "inferway", "--gateway", "vllm-router"),
        *("--rounds", "1", "--scale", "0.001", "--scenario", "unary-4k-c1", "--interpreted"),
    )
    assert done.returncode == 1
    assert found["notes"] == ["vllm-router: absent: vllm-router is not installed"]
    assert "vllm-router is not installed" in done.stdout
    failed = [check for check in found["checks"] if not check["ok"]]
    assert [check["value"] for check in failed] == [None]


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_the_floor_passes_every_byte_on(tmp_path: Path) -> None:
    done, found = bench(
        tmp_path / "floor.json",
        *("overhead", "--gateway", "floor", "--rounds", "1", "--scale", "0.01"),
        *("--scenario", "unary-4k-c32", "--scenario", "streams-100", "--scenario", "long-220k-c20"),
    )
    assert done.returncode == 0, done.stdout
    assert found["notes"] == []
    assert len(found["medians"]) == 3
    for one in found["medians"]:
        values = one["values"]
        assert values["errors"] == values["bodies_changed"] == 0
        assert values["bodies_sent"] == values["bodies_received"] > 0
        assert values["cpu_us_per_request"] > 0


def test_decide_times_every_size_and_fleet(tmp_path: Path) -> None:
    _, found = bench(tmp_path / "decide.json", "decide", "--decisions", "100", "--rounds", "1")
    cases = {(one["prompt_bytes"], one["endpoints"]): one for one in found["medians"]}
    assert len(cases) == 6
    assert all(0 < one["route_p50_us"] <= one["total_p99_us"] for one in cases.values())
    assert len(found["checks"]) == 4


def test_index_fills_its_budget_and_keeps_it(tmp_path: Path) -> None:
    _, found = bench(
        tmp_path / "index.json",
        *("index", "--prompts", "100000", "--budget", str(32 << 20)),
    )
    (figures,) = found["medians"]
    assert 0.95 * (32 << 20) < figures["bytes_used"] <= 32 << 20
    assert figures["blocks"] < 16 * figures["prompts"]
    assert len(found["checks"]) == 2 and found["rounds"][-1]["prompts"] == 100_000


def test_exactness_compares_what_was_predicted_with_what_servers_report(tmp_path: Path) -> None:
    done, found = bench(
        tmp_path / "exactness.json", *("exactness", "--requests", "600", "--cache-tokens", "20000")
    )
    assert done.returncode == 0, done.stdout
    assert found["medians"][0]["requests"] == 600
    assert [check["ok"] for check in found["checks"]] == [True, True, True]


def test_events_measures_what_following_caches_costs(tmp_path: Path) -> None:
    _, found = bench(tmp_path / "events.json", *("events", "--blocks", "20000", "--rounds", "1"))
    assert found["medians"][0]["cpu_us_per_block"] > 0
    assert len(found["checks"]) == 2


def test_extproc_measures_pickers_behind_the_real_envoy(tmp_path: Path) -> None:
    done, found = bench(
        tmp_path / "extproc.json",
        *("extproc", "--rounds", "1", "--scale", "0.01", "--scenario", "4k"),
        *("--scenario", "streams-5000", "--picker", "inferway", "--picker", "grpc.aio raw"),
    )
    assert found["notes"] == []
    medians = {
        (one["picker"], one["mode"], one["scenario"]): one["values"] for one in found["medians"]
    }
    assert len(medians) == 6
    for values in medians.values():
        assert values["errors"] == values["bodies_changed"] == 0
        assert values["requests_per_second"] > 0
        assert values["cpu_us_per_request"] > 0
    held = medians["inferway", "recommended", "streams-5000"]
    assert held["bytes_per_stream"] is not None
    assert "Envoy us/req" in done.stdout


def test_chaos_breaks_a_server_and_its_line_and_nothing_is_lost(tmp_path: Path) -> None:
    done, found = bench(
        tmp_path / "chaos.json",
        *("chaos", "--fault", "kill", "--fault", "length", "--seconds", "4"),
    )
    rows = {row["fault"]: row for row in found["medians"]}
    assert rows.keys() == {"kill", "length"}
    for row in rows.values():
        assert row["strikes"] > 0 and row["answered"] > 0
        assert row["offered"] == row["answered"] + row["errors"]
        assert row["wrong"] == row["lost"] == row["ledger_left"] == 0
    assert "length" in done.stdout


def test_a_benchs_gateway_ends_with_the_bench() -> None:
    """However the bench ends: the other end of a pipe closes even when it is killed."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "bench.chaos.served", "serve", "http://127.0.0.1:9"),
            *("--port", "0", "--admin-port", "0"),
        ],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None and process.stderr is not None
    try:
        assert any("serving clients on" in line for line in process.stderr)
        process.stdin.close()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def test_soak_samples_what_must_not_grow(tmp_path: Path) -> None:
    """Half a minute proves nothing about slopes: only that they are taken from real samples."""
    _, found = bench(tmp_path / "soak.json", *("soak", "--minutes", "0.4", "--rate", "50"))
    (figures,) = found["medians"]
    assert figures["answered"] + figures["aborted"] == figures["offered"] > 500
    assert figures["wrong"] == figures["left_in_ledgers"] == 0
    assert len(found["rounds"]) >= 4
    assert all(sample["rss_bytes"] > 0 and sample["descriptors"] > 0 for sample in found["rounds"])
    judged = {check["name"]: check for check in found["checks"]}
    assert not judged["answered"]["ok"]  # 50 a second are too few, and it says so


def test_placement_compares_and_plans_on_a_cluster(tmp_path: Path) -> None:
    done, found = bench(
        tmp_path / "placement.json",
        *("placement", "--scenarios", "100", "--nodes", "200", "--plans", "12"),
    )
    assert done.returncode == 0, done.stdout
    compared, scale = found["medians"]
    assert compared["possible"] == compared["found"] > 10
    assert scale["devices"] == 1_600 and 0 < scale["placed"] <= scale["plans"]
    assert [check["name"].partition(":")[2] for check in found["checks"]][4:] == [
        *(" p99 of planning 64 pods", " p99 of a slice's update", " most memory of the process"),
    ]
