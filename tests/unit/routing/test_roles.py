import pytest

from routing.endpoint import Endpoint
from routing.roles import unknown_role


def endpoint(*labels: tuple[str, str]) -> Endpoint:
    return Endpoint("e", "http://e", labels=labels)


@pytest.mark.parametrize(
    ("label", "role", "prefills", "decodes"),
    [
        ("prefill", "prefill", True, False),
        ("decode", "decode", False, True),
        ("both", "both", True, True),
        ("prefill-decode", "both", True, True),
        ("encode-prefill-decode", "both", True, True),
        ("encode-prefill", "prefill", True, False),
        ("encode-decode", "decode", False, True),
        ("encode", "encode", False, False),
        (" Prefill ", "prefill", True, False),
    ],
)
def test_roles_and_llmds_spellings(label: str, role: str, prefills: bool, decodes: bool) -> None:
    for name in ("role", "llm-d.ai/role", "inferway.dev/role"):
        one = endpoint((name, label))
        assert (one.role, one.prefills, one.decodes) == (role, prefills, decodes)


def test_without_a_label_whole_requests_come_and_no_prefill_leg() -> None:
    one = endpoint(("hardware", "h100"))
    assert (one.role, one.prefills, one.decodes) == ("both", False, True)
    assert endpoint(("role", "worker")).prefills is False


def test_our_own_label_wins_and_an_unknown_value_is_told() -> None:
    assert endpoint(("role", "decode"), ("inferway.dev/role", "prefill")).role == "prefill"
    assert endpoint(("llm-d.ai/role", "nonsense"), ("role", "decode")).role == "decode"
    assert unknown_role((("role", "prefil"),)) == ("role", "prefil")
    assert unknown_role((("role", "decode"), ("zone", "a"))) is None


def test_the_connector_is_a_label() -> None:
    assert endpoint(("kv-connector", "nixl")).connector == "nixl"
    assert endpoint().connector == ""
