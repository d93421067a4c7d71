"""The demo runs from end to end and says what it measured."""

from tests.support.processes import run


def test_the_demo_compares_policies_without_a_failure() -> None:
    ran = run("demo", "--requests", "30", "--time-scale", "0.05")
    assert ran.returncode == 0, ran.stderr
    for word in ("round_robin", "predicted_time", "mean", "p99", "hits", "0 of 30"):
        assert word in ran.stdout


def test_an_unknown_policy_or_trace_is_an_error_that_helps() -> None:
    unknown = run("demo", "--policy", "nope")
    assert unknown.returncode == 2 and "least_request" in unknown.stderr
    missing = run("demo", "--trace", "/nowhere.jsonl")
    assert missing.returncode == 2 and "/nowhere.jsonl" in missing.stderr


def test_the_demo_compares_whole_and_split_requests() -> None:
    ran = run("demo", "--disaggregated", "--requests", "12", "--time-scale", "0.02")
    assert ran.returncode == 0, ran.stderr
    for word in ("aggregated", "3P+1D, always", "all both, adaptive", "0 of 12"):
        assert word in ran.stdout
