"""Types of values, and how messages call a right one (`msgspec.Meta`)."""

from typing import Annotated, TypeAlias

import msgspec

_DAY = 86_400.0

Text: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, description="non-empty text")]
Port: TypeAlias = Annotated[
    int, msgspec.Meta(ge=0, le=65_535, description="a port, 0 (any free one) to 65535")
]
Seconds: TypeAlias = Annotated[
    float, msgspec.Meta(gt=0, le=_DAY, description="seconds, above 0 and at most 86400")
]
SecondsOrZero: TypeAlias = Annotated[
    float, msgspec.Meta(ge=0, le=_DAY, description="seconds, 0 to 86400")
]
Bytes: TypeAlias = Annotated[
    int, msgspec.Meta(ge=1024, le=1 << 40, description="a whole number of bytes, at least 1024")
]
Count: TypeAlias = Annotated[
    int, msgspec.Meta(ge=1, le=1_000_000_000, description="a whole number, at least 1")
]
CountOrZero: TypeAlias = Annotated[
    int, msgspec.Meta(ge=0, le=1_000_000_000, description="a whole number, at least 0")
]
Priority: TypeAlias = Annotated[
    int, msgspec.Meta(ge=-1_000_000, le=1_000_000, description="a whole number, higher is first")
]

Fraction: TypeAlias = Annotated[
    float, msgspec.Meta(ge=0, le=1, description="a fraction, from 0 to 1")
]
Rate: TypeAlias = Annotated[
    float, msgspec.Meta(ge=0, le=1e6, description="a rate per second, at least 0")
]
Share: TypeAlias = Annotated[
    float, msgspec.Meta(gt=0, le=1, description="a share, above 0 and at most 1")
]
Weight: TypeAlias = Annotated[
    float, msgspec.Meta(gt=0, le=1000, description="a factor, above 0 and at most 1000")
]
Bandwidth: TypeAlias = Annotated[
    float, msgspec.Meta(gt=0, le=1e15, description="bytes a second, above 0")
]
ErrorStatus: TypeAlias = Annotated[
    int, msgspec.Meta(ge=400, le=599, description="a status of an error, 400 to 599")
]
Origin: TypeAlias = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^(\*|[a-z][a-z0-9+.-]*://[^/\sA-Z*,?#@]+)$",
        description="an origin as browsers send it, such as https://chat.example.com, or *",
    ),
]
FieldName: TypeAlias = Annotated[
    str, msgspec.Meta(pattern="^[A-Za-z0-9_-]+$", description="the name of a header field")
]
FieldPattern: TypeAlias = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[A-Za-z0-9_-]+\*?$",
        description="the name of a header field, or how names begin and a *",
    ),
]
Method: TypeAlias = Annotated[
    str, msgspec.Meta(pattern="^[A-Z]+$", description="a method in capitals, such as GET")
]


NamespacedName: TypeAlias = Annotated[
    str, msgspec.Meta(pattern="^[a-z0-9.-]+/[a-z0-9.-]+$", description="namespace/name")
]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A part of the settings. What is built in code, not from a file, is not checked."""
