"""Asks a running gateway's admin server for receipts."""

from typing import TypeVar
from urllib.parse import quote, urlencode

import aiohttp
import msgspec

from gateway.admin.receipts import ReceiptPage

_Page = TypeVar("_Page")
_TIMEOUT_SECONDS = 10.0
_LONGEST_MESSAGE = 2_000


class AskError(RuntimeError):
    """There is no answer; the message says why and what to do."""


class _Refusal(msgspec.Struct):
    error: str


async def ask_one(admin: str, request_id: str) -> bytes:
    """The page of one request's receipt, as JSON. Raises `AskError`."""
    return await _ask(admin, f"/debug/decisions/{quote(request_id, safe='')}")


async def ask_latest(admin: str, query: dict[str, str]) -> bytes:
    """The page of the latest receipts, as JSON. Raises `AskError`."""
    return await _ask(admin, f"/debug/decisions?{urlencode(query)}")


async def _ask(admin: str, target: str) -> bytes:
    if not admin.startswith(("http://", "https://")):
        raise AskError(f"{admin!r} is no address: give one such as http://127.0.0.1:9090")
    url = admin.rstrip("/") + target
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(_TIMEOUT_SECONDS)) as session,
            session.get(url, allow_redirects=False) as response,
        ):
            body = await response.read()
            status = response.status
    except TimeoutError:
        raise AskError(f"{admin} did not answer within {_TIMEOUT_SECONDS:g} s") from None
    except (aiohttp.ClientError, OSError) as error:
        raise AskError(
            f"can't reach the admin server at {admin}: {error}; "
            "give the address that `inferway serve` logs for operators with --admin"
        ) from None
    if status == 200:
        return body
    try:
        message = msgspec.json.decode(body, type=_Refusal).error[:_LONGEST_MESSAGE]
    except msgspec.DecodeError:
        raise AskError(
            f"{admin} answered {status} and is no Inferway admin server, or one of another version"
        ) from None
    raise AskError(message)


def read_one(body: bytes, admin: str) -> ReceiptPage:
    """One receipt. Raises `AskError` when it is something else."""
    return _read(body, ReceiptPage, admin)


def read_latest(body: bytes, admin: str) -> list[ReceiptPage]:
    """A list of receipts. Raises `AskError` when it is something else."""
    return _read(body, list[ReceiptPage], admin)


def _read(body: bytes, shape: type[_Page], admin: str) -> _Page:
    try:
        return msgspec.json.decode(body, type=shape)
    except msgspec.DecodeError as error:
        raise AskError(
            f"{admin} is no Inferway admin server, or one of another version: {error}"
        ) from None
