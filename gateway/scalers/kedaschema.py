"""The messages of KEDA's external scalers, as descriptors made in code.

Field numbers are those of externalscaler.proto (https://github.com/kedacore/keda,
pkg/scalers/externalscaler).
"""

from typing import Any, Final

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

PACKAGE: Final = "externalscaler"
SERVICE: Final = f"{PACKAGE}.ExternalScaler"
_KINDS: Final = {
    "string": FieldDescriptorProto.TYPE_STRING,
    "bool": FieldDescriptorProto.TYPE_BOOL,
    "int64": FieldDescriptorProto.TYPE_INT64,
    "double": FieldDescriptorProto.TYPE_DOUBLE,
}
_MESSAGES: Final[dict[str, dict[str, tuple[int, str]]]] = {
    "ScaledObjectRef": {"name": (1, "string"), "namespace": (2, "string")},
    "IsActiveResponse": {"result": (1, "bool")},
    "GetMetricSpecResponse": {"metricSpecs": (1, "*MetricSpec")},
    "MetricSpec": {
        "metricName": (1, "string"),
        "targetSize": (2, "int64"),
        "targetSizeFloat": (3, "double"),
    },
    "GetMetricsRequest": {"scaledObjectRef": (1, "ScaledObjectRef"), "metricName": (2, "string")},
    "GetMetricsResponse": {"metricValues": (1, "*MetricValue")},
    "MetricValue": {
        "metricName": (1, "string"),
        "metricValue": (2, "int64"),
        "metricValueFloat": (3, "double"),
    },
}
_METHODS: Final = (
    ("IsActive", "ScaledObjectRef", "IsActiveResponse", False),
    ("StreamIsActive", "ScaledObjectRef", "IsActiveResponse", True),
    ("GetMetricSpec", "ScaledObjectRef", "GetMetricSpecResponse", False),
    ("GetMetrics", "GetMetricsRequest", "GetMetricsResponse", False),
)


def _file() -> FileDescriptorProto:
    file = FileDescriptorProto(name="externalscaler.proto", package=PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            _add_field(message, field, number, kind)
        if name == "ScaledObjectRef":
            entry = message.nested_type.add(name="ScalerMetadataEntry")
            _add_field(entry, "key", 1, "string")
            _add_field(entry, "value", 2, "string")
            entry.options.map_entry = True
            _add_field(message, "scalerMetadata", 3, f"*{name}.ScalerMetadataEntry")
    service = file.service.add(name="ExternalScaler")
    for method, asked, answered, streams in _METHODS:
        service.method.add(
            name=method,
            input_type=f".{PACKAGE}.{asked}",
            output_type=f".{PACKAGE}.{answered}",
            server_streaming=streams,
        )
    return file


def _add_field(message: DescriptorProto, name: str, number: int, kind: str) -> None:
    field = message.field.add(name=name, number=number)
    repeated = kind.startswith("*")
    field.label = (
        FieldDescriptorProto.LABEL_REPEATED if repeated else FieldDescriptorProto.LABEL_OPTIONAL
    )
    plain = kind.lstrip("*")
    if plain in _KINDS:
        field.type = _KINDS[plain]
    else:
        field.type = FieldDescriptorProto.TYPE_MESSAGE
        field.type_name = f".{PACKAGE}.{plain}"


POOL: Final = DescriptorPool()
"""Where this schema is, and nothing else."""
POOL.Add(_file())


def _message(name: str) -> Any:  # noqa: ANN401 - its fields are known at run time only
    return GetMessageClass(POOL.FindMessageTypeByName(f"{PACKAGE}.{name}"))


ScaledObjectRef: Final = _message("ScaledObjectRef")
IsActiveResponse: Final = _message("IsActiveResponse")
GetMetricSpecResponse: Final = _message("GetMetricSpecResponse")
GetMetricsRequest: Final = _message("GetMetricsRequest")
GetMetricsResponse: Final = _message("GetMetricsResponse")
