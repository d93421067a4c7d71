from typing import Any

import pytest

from endpoints.probes.settings import ProbeSettings


@pytest.mark.parametrize(
    "field", ["interval", "timeout", "models_interval", "unhealthy_after", "healthy_after"]
)
@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_values_that_cannot_be_are_named(field: str, value: float) -> None:
    wrong: dict[str, Any] = {field: value}
    with pytest.raises(ValueError, match=field):
        ProbeSettings(**wrong)


def test_jitter_is_a_share() -> None:
    assert ProbeSettings(jitter=0.0).jitter == 0.0
    with pytest.raises(ValueError, match="jitter"):
        ProbeSettings(jitter=1.0)
