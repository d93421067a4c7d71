"""`inferway plan` as a user runs it, on the cluster that the documentation shows."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from gateway.cli import app

POOL, CLUSTER = Path("docs/allocation/pool.yaml"), Path("docs/allocation/cluster.json")


def plan(*arguments: str, pool: Path = POOL, cluster: Path = CLUSTER) -> Result:
    return CliRunner().invoke(
        app, ["plan", "-f", str(pool), "--snapshot", str(cluster), *arguments]
    )


def found(*arguments: str) -> dict[str, Any]:
    done = plan(*arguments, "--json")
    assert done.exit_code in {0, 1}, done.output
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_each_rejected_domain_has_one_line_with_its_reason() -> None:
    done = plan()
    assert done.exit_code == 0, done.output
    for domain, said in (("leaf-a", "6 in use"), ("leaf-c", "1 node: not ready")):
        (line,) = (one for one in done.stdout.splitlines() if f"│ leaf {domain}" in one)
        assert said in line
    assert "feasible: 1 replica now, 2 when idle replicas of lower priority go" in done.stdout


def test_the_documentation_shows_what_is_printed() -> None:
    page = Path("docs/allocation.md").read_text()
    shown = [block.strip() for block in page.split("```") if block.startswith("\n$ inferway plan")]
    assert len(shown) == 2
    for block in shown:
        command, _, output = block.partition("\n")
        done = plan(*command.split("cluster.json")[1].split())
        assert [one.rstrip() for one in done.stdout.rstrip().splitlines()] == [
            one.rstrip() for one in output.splitlines()
        ]


def test_json_has_every_device_and_every_reason() -> None:
    answer = found("--replicas", "3")
    assert answer["feasible"]["now"] == 1
    assert answer["feasible"]["afterPreemption"] == 2
    first, second = answer["placed"]
    assert first["domain"] == {
        "level": "leaf",
        "value": "leaf-b",
        "label": "fabric.topograph.run/tier-0",
    }
    devices = [one for pod in first["pods"] for claim in pod["claims"] for one in claim["devices"]]
    assert len(set(devices)) == 4
    assert second["evictions"] == [{"pool": "batch", "replica": "0"}]
    assert [one["domain"]["value"] for one in answer["refused"]["domains"]] == [
        *("leaf-a", "leaf-b", "leaf-c"),
    ]
    assert all(one["code"] and one["reason"] for one in answer["refused"]["domains"])


def test_not_all_can_be_had() -> None:
    assert plan("--replicas", "3").exit_code == 1


def test_levels_of_ones_own_and_costs() -> None:
    answer = found("--level", "leaf=fabric.topograph.run/tier-0", "--cost", "gpu.nvidia.com=2.5")
    assert answer["topology"] == "own"
    assert answer["placed"][0]["cost"] == 10.0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--topology", "moon"], "--topology: there is no 'moon'; there are topograph"),
        (["--topology", "cloud", "--level", "a=b"], "exclude each other"),
        (["--level", "leaf"], "--level leaf: write NAME=LABEL"),
        (["--cost", "x=y"], "--cost x=y: 'y' is no number"),
    ],
)
def test_what_is_wrong_on_the_command_line(arguments: list[str], said: str) -> None:
    done = plan(*arguments)
    assert done.exit_code == 2
    assert said in done.stderr


def test_files_that_can_not_be_used(tmp_path: Path) -> None:
    broken = tmp_path / "pool.yaml"
    broken.write_text(POOL.read_text().replace("count: 2", "count: two"))
    done = plan(pool=broken)
    assert done.exit_code == 2
    assert "spec.roles[0].devices[0].count: Expected `int | null`, got `str`" in done.stderr
    empty = tmp_path / "cluster.json"
    empty.write_text("{")
    done = plan(cluster=empty)
    assert (done.exit_code, "it is no JSON" in done.stderr) == (2, True)
    assert plan(cluster=tmp_path / "none").exit_code == 2


def test_an_unknown_level_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    pool = tmp_path / "pool.yaml"
    pool.write_text(POOL.read_text().replace("required: leaf", "required: rack"))
    done = plan(pool=pool)
    assert done.exit_code == 1
    assert "no level 'rack'; there are region" in " ".join(done.stdout.split())
