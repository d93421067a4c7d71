import pytest

from gateway.apis.call import ApiError
from gateway.objectives import targets_of
from gateway.settings import Objective

NAMED = {"chat": Objective(ttft=0.5, itl=0.02)}


def head(**fields: str) -> dict[bytes, bytes]:
    return {name.replace("_", "-").encode(): value.encode() for name, value in fields.items()}


def test_nothing_special_without_headers() -> None:
    assert targets_of(head(), NAMED) == (None, None)


def test_an_objective_by_name() -> None:
    assert targets_of(head(x_gateway_inference_objective="chat"), NAMED) == (0.5, 0.02)
    assert targets_of(head(x_llm_d_inference_objective="chat"), NAMED) == (0.5, 0.02)


def test_an_unknown_name_means_nothing_special() -> None:
    assert targets_of(head(x_gateway_inference_objective="other"), NAMED) == (None, None)


def test_own_targets_win_over_the_name() -> None:
    asked = head(x_gateway_inference_objective="chat", x_slo_ttft_ms="1500")
    assert targets_of(asked, NAMED) == (1.5, 0.02)
    assert targets_of(head(x_llm_d_slo_tpot_ms="20"), {}) == (None, 0.02)


@pytest.mark.parametrize("value", ["", "soon", "0", "-5", "nan", "inf", "1e12"])
def test_a_target_that_is_no_time_is_refused(value: str) -> None:
    with pytest.raises(ApiError, match="x-slo-ttft-ms must be a number") as refused:
        targets_of(head(x_slo_ttft_ms=value), {})
    assert refused.value.status == 400
    assert refused.value.param == "x-slo-ttft-ms"
