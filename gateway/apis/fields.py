"""Fields that bodies of most operations share, and their readings."""

from typing import Final

from gateway.apis.bodies import ABSENT, Common
from gateway.apis.call import ApiError
from gateway.apis.splice import given_fields

INTERNAL_FIELDS: Final = (
    "kv_transfer_params",
    "ec_transfer_params",
    "bootstrap_host",
    "bootstrap_port",
    "bootstrap_room",
    "disaggregated_params",
)
"""Fields that only the gateway may set: they tell vLLM, SGLang and TensorRT-LLM from which
other server to take a request's KV cache."""


def internal_fields(request: Common, body: bytes) -> tuple[str, ...]:
    """Which of `INTERNAL_FIELDS` the client gave a value other than null.

    The struct only tells, at no cost, that there are none. When there are, the body itself is
    looked at: it may have a field twice, and the struct knows the last one only.

    Raises:
        ApiError: 400 ``invalid_field`` when there are so many other fields, too, that taking
            these out would hold up other requests, or one whose name is not UTF-8: decoding
            the struct skips fields that it does not know without a close look.

    """
    if (
        request.kv_transfer_params
        is request.ec_transfer_params
        is request.bootstrap_host
        is request.bootstrap_port
        is request.bootstrap_room
        is request.disaggregated_params
        is ABSENT
    ):
        return ()
    try:
        return given_fields(body, INTERNAL_FIELDS)
    except ValueError as error:
        raise ApiError(400, "invalid_field", f"The body: {error}.") from None


def output_limit(*limits: int | float | None) -> int | None:
    """The first limit given, in tokens; None without one.

    A negative limit is llama.cpp's way of setting none.
    """
    for limit in limits:
        if limit is not None:
            return int(limit) if limit >= 0 else None
    return None
