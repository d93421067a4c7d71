"""The HTTP/1.1 rules as tables of raw bytes: what a client sends, gets, and a server sees."""

from tests.support.rawcases.case import RawCase
from tests.support.rawcases.connections import CONNECTION_CASES
from tests.support.rawcases.fields import FIELD_CASES
from tests.support.rawcases.framing import FRAMING_CASES
from tests.support.rawcases.heads import HEAD_CASES
from tests.support.rawcases.responses import RESPONSE_CASES, ResponseCase
from tests.support.rawcases.targets import TARGET_CASES

REQUEST_CASES: tuple[RawCase, ...] = (
    *FRAMING_CASES,
    *HEAD_CASES,
    *TARGET_CASES,
    *CONNECTION_CASES,
    *FIELD_CASES,
)

__all__ = ["REQUEST_CASES", "RESPONSE_CASES", "RawCase", "ResponseCase"]
