"""Which request suffers what, and how behaviour is changed at run time."""

import msgspec
import pytest

from bench.fleet.errors import RequestError
from bench.fleet.faults import BreakStream, FaultInjector, Reset
from bench.fleet.routes.operations import changed
from bench.fleet.settings import Behaviour, ErrorKind, Faults, ServerSettings, StreamFault


def test_nothing_happens_by_default() -> None:
    injector = FaultInjector(Faults(), seed=0)
    assert [injector.draw(None) for _ in range(100)] == [None] * 100


def test_the_rate_is_kept_and_the_seed_repeats_it() -> None:
    def fates() -> list[bool]:
        injector = FaultInjector(Faults(reset_rate=0.3), seed=7)
        return [isinstance(injector.draw(None), Reset) for _ in range(2000)]

    assert fates() == fates()
    assert sum(fates()) / 2000 == pytest.approx(0.3, abs=0.04)


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (ErrorKind.RATE_LIMIT, 429),
        (ErrorKind.INVALID_API_KEY, 401),
        (ErrorKind.CONTEXT_LENGTH, 400),
        (ErrorKind.SERVER_ERROR, 503),
        (ErrorKind.INVALID_REQUEST, 400),
        (ErrorKind.MODEL_NOT_FOUND, 404),
    ],
)
def test_errors_have_their_status(kind: ErrorKind, status: int) -> None:
    fate = FaultInjector(Faults(errors={kind: 1.0}), seed=0).draw(None)
    assert isinstance(fate, RequestError)
    assert fate.openai_body["error"]["code"] == status


def test_a_stream_breaks_where_it_is_told_to() -> None:
    faults = Faults(stream_fault_rate=1, stream_fault=StreamFault.STALL, stream_fault_after=3)
    assert FaultInjector(faults, 0).draw(None) == BreakStream(StreamFault.STALL, 3)


@pytest.mark.parametrize(("asked", "status"), [("503", 503), ("418", 418), ("599", 599)])
def test_a_client_may_ask_for_an_error(asked: str, status: int) -> None:
    fate = FaultInjector(Faults(), 0).draw(asked)
    assert isinstance(fate, RequestError)
    assert fate.status == status


@pytest.mark.parametrize("asked", ["", "200", "600", "abc", "²³⁴", "-404"])
def test_an_error_that_is_none_is_refused(asked: str) -> None:
    fate = FaultInjector(Faults(), 0).draw(asked)
    assert isinstance(fate, RequestError)
    assert (fate.status, fate.param) == (400, "X-Return-Error")


def test_a_change_keeps_all_that_it_does_not_name() -> None:
    before = Behaviour(jitter=0.1, faults=Faults(reset_rate=0.5))
    after = changed(before, {"time_scale": 0.5, "faults": {"stream_fault": "stall"}})
    assert (after.jitter, after.time_scale, after.timing) == (0.1, 0.5, before.timing)
    assert after.faults == Faults(reset_rate=0.5, stream_fault=StreamFault.STALL)


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"time_scale": 0}, "time_scale"),
        ({"jitter": 0.31}, "jitter"),
        ({"faults": {"reset_rate": 1.5}}, "faults.reset_rate"),
        ({"faults": {"stream_fault": "explode"}}, "faults.stream_fault"),
        ({"faults": 3}, "faults"),
        ({"faults": {"errors": {"server_error": "often"}}}, "faults.errors[...]"),
    ],
)
def test_a_wrong_value_is_refused_by_name(changes: dict[str, object], param: str) -> None:
    with pytest.raises(RequestError) as caught:
        changed(Behaviour(), changes)
    assert (caught.value.status, caught.value.param) == (400, param)


@pytest.mark.parametrize("changes", [{"speed": 1}, {"faults": {"explode_rate": 1}}])
def test_an_unknown_field_is_refused_by_name(changes: dict[str, object]) -> None:
    with pytest.raises(RequestError, match=r"unknown field `(speed|explode_rate)`"):
        changed(Behaviour(), changes)


def test_equal_servers_have_seeds_of_their_own() -> None:
    one, other = ServerSettings(name="sim-0", seed=1), ServerSettings(name="sim-1", seed=1)
    assert one.private_seed != other.private_seed
    assert one.private_seed == ServerSettings(name="sim-0", seed=1).private_seed


def test_settings_are_checked_where_they_are_converted() -> None:
    with pytest.raises(msgspec.ValidationError, match="block_size"):
        msgspec.convert({"block_size": 0}, ServerSettings)


def test_the_context_is_what_the_cache_can_hold() -> None:
    settings = ServerSettings(block_size=16, cache_tokens=1000, max_model_len=4096)
    assert (settings.cache_blocks, settings.context_length) == (62, 992)
