"""Locust's users against the embedded fleet: that all they ask is answered, not how soon."""

import csv
import subprocess
import sys
from pathlib import Path

from tests.support.processes import serving

LOAD = Path(__file__).parents[2] / "bench" / "load"


def test_half_a_minute_of_users_without_a_failure(tmp_path: Path) -> None:
    with serving("--embedded") as gateway:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "locust", "--headless", "--only-summary"),
                *("-f", str(LOAD / "locustfile.py"), "--host", gateway.url),
                *("--users", "10", "--spawn-rate", "5", "--run-time", "30s", "--think", "0.5"),
                *("--stop-timeout", "20", "--csv", str(tmp_path / "found")),
            ],
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    with (tmp_path / "found_stats.csv").open() as file:
        rows = {(row["Type"], row["Name"]): row for row in csv.DictReader(file)}
    for name in ("first turn", "later turn", "sibling", "document"):
        for kind in ("CHAT", "TTFT", "ITL"):
            row = rows[kind, name]
            assert int(row["Request Count"]) > 0 and row["Failure Count"] == "0"
        # Each answer has a first piece of text; the end of the test may cut the last ones.
        whole, begun = (int(rows[kind, name]["Request Count"]) for kind in ("CHAT", "TTFT"))
        assert whole <= begun <= whole + 10
