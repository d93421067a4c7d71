"""All benches on one page: complete, self-contained, and without an error in a real browser."""

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from bench.command import app
from bench.report.figures import ReportError, command_of, flat, read
from bench.report.markdown import tables
from bench.report.page import page
from bench.results import Results, at_most, results, write_json

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


def found(
    bench: str,
    medians: Sequence[Mapping[str, object]],
    rounds: Sequence[Mapping[str, object]] = (),
    value: float | None = 1.0,
) -> Results:
    return results(
        bench,
        parameters={},
        notes=["a <note>"],
        rounds=rounds,
        medians=medians,
        checks=[at_most(f"{bench}: a check", value, 2.0, "units")],
    )


LAB = [
    {"workload": "sessions", "gateway": name, "mean_ttft": ttft, "hit_ratio": 0.5, "runs": 1}
    for name, ttft in (("inferway", 0.5), ("round-robin", 1.0))
]
EVERYTHING = [
    found(
        "lab", LAB, [{"workload": "sessions", "gateway": "inferway", "ttfts": [0.2, 0.4, 0.9]}]
    ),
    found(
        "soak",
        [{"minutes": 1.0, "rss_last": 98_000_000, "errors": {}}],
        [{"at": at, "rss_bytes": 97e6 + at, "descriptors": 40} for at in (5.0, 10.0, 15.0)],
    ),
    found(
        "chaos",
        [
            {"fault": "kill", "what": "kill -9", "felt": 0.1, "returned": 2.0, "offered": 9,
             "error_kinds": {"error event": 3}, "bad_kinds": {}},
            {"fault": "dns", "what": "no name", "felt": None, "returned": None, "offered": 7,
             "error_kinds": {}, "bad_kinds": {}},
        ],
        value=3.0,
    ),
    found(
        "overhead",
        [{"gateway": "envoy", "scenario": "unary", "values": {"cpu_us_per_request": 40.0}}],
    ),
    found("decide", [{"prompt_bytes": 4096, "route_p50_us": 9.5}]),
    found("unheard of", [{"figure": 1}], value=None),
]  # fmt: skip


def test_every_bench_has_its_section_charts_and_command() -> None:
    html = page(EVERYTHING)
    assert html.count("<section>") == len(EVERYTHING) + 1
    assert "6 checks" not in html.replace("6 benches, 6 checks", "")
    assert "2 do not hold" in html
    assert html.count("<svg") == 3 + 2 + 2 + 1  # lab, soak, chaos, overhead
    assert "error event 3" in html and "round-robin" in html
    assert "a &lt;note&gt;" in html and "<note>" not in html


def test_the_page_needs_nothing_from_elsewhere() -> None:
    assert not re.search(r"(src|href)=|@import|url\(|https?://(?!www\.w3\.org)", page(EVERYTHING))


def test_a_command_is_told_without_places_on_this_machine() -> None:
    one = msgspec.structs.replace(
        EVERYTHING[0],
        parameters={"command": ["/a/b/inferway", "bench", "soak", "--json", "/c/d/soak.json"]},
    )
    assert command_of(one) == "inferway bench soak --json soak.json"
    assert command_of(msgspec.structs.replace(one, parameters={})) == ""


def test_rows_within_rows_join_them() -> None:
    row = {"gateway": "x", "values": {"a": 1, "kinds": {"b": 2}}, "many": [1, 2], "what": "-"}
    assert flat(row) == {"gateway": "x", "a": 1, "b": 2}


def test_markdown_tables_have_a_cell_for_every_heading() -> None:
    lines = [line for line in tables(EVERYTHING).splitlines() if line.startswith("|")]
    assert any("**does not hold**" in line for line in lines)
    width = 0
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if following.startswith("| ---"):
            width = line.count("|")
        assert line.count("|") == width


def test_the_command_reads_files_and_names_what_is_none(tmp_path: Path) -> None:
    runner = CliRunner()
    good, bad, out = tmp_path / "lab.json", tmp_path / "bad.json", tmp_path / "out.html"
    write_json(EVERYTHING[0], good)
    bad.write_text("{}")
    done = runner.invoke(app, ["report", str(good), "--output", str(out)])
    assert done.exit_code == 0 and out.read_text().startswith("<!doctype html>")
    assert "| --- |" in runner.invoke(app, ["report", str(good), "--markdown"]).output
    done = runner.invoke(app, ["report", str(bad), "--output", str(out)])
    assert done.exit_code == 2 and "bad.json" in done.output
    with pytest.raises(ReportError, match=r"no\.json"):
        read(tmp_path / "no.json")


def complaints(html: str, folder: Path) -> list[str]:
    """What a real browser writes to its console while it shows a page."""
    assert CHROMIUM is not None
    file = folder / "page.html"
    file.write_text(html)
    done = subprocess.run(
        [
            *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"),
            *(f"--user-data-dir={folder / 'profile'}", "--dump-dom", file.as_uri()),
        ],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "</html>" in done.stdout
    return [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")
def test_a_real_browser_has_nothing_to_complain_of(tmp_path: Path) -> None:
    broken = page(EVERYTHING).replace("<script>", "<script>nobody.defined.this();")
    assert complaints(broken, tmp_path)
    assert complaints(page(EVERYTHING), tmp_path) == []
