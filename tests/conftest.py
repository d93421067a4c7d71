import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--kubeconfig",
        metavar="FILE",
        help="run the tests of tests/cluster against this cluster instead of the stand-in",
    )
