"""The messages of gRPC's own services, health and reflection, as descriptors made in code.

Field numbers are those of grpc/health/v1/health.proto and grpc/reflection/v1/reflection.proto
(https://github.com/grpc/grpc-proto). Made here, they cost no dependency on grpcio, and in a pool
of their own they never meet those of grpcio's packages.
"""

from collections.abc import Mapping
from typing import Any, Final

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

_KINDS = {
    "string": FieldDescriptorProto.TYPE_STRING,
    "bytes": FieldDescriptorProto.TYPE_BYTES,
    "int32": FieldDescriptorProto.TYPE_INT32,
}


def _add_message(
    into: DescriptorProto, name: str, fields: Mapping[str, tuple[int, str]], package: str
) -> None:
    """Fields are ``name: (number, kind)``; ``*kind`` repeats, what is no scalar is a message."""
    into.name = name
    for field_name, (number, kind) in fields.items():
        field = into.field.add(name=field_name, number=number)
        field.label = FieldDescriptorProto.LABEL_OPTIONAL
        if kind.startswith("*"):
            field.label = FieldDescriptorProto.LABEL_REPEATED
        plain = kind.lstrip("*")
        if plain in _KINDS:
            field.type = _KINDS[plain]
        elif plain == "ServingStatus":
            field.type = FieldDescriptorProto.TYPE_ENUM
            field.type_name = f".{package}.HealthCheckResponse.ServingStatus"
        else:
            field.type = FieldDescriptorProto.TYPE_MESSAGE
            field.type_name = f".{package}.{plain}"


def _health() -> FileDescriptorProto:
    package = "grpc.health.v1"
    file = FileDescriptorProto(name="grpc/health/v1/health.proto", package=package, syntax="proto3")
    _add_message(file.message_type.add(), "HealthCheckRequest", {"service": (1, "string")}, package)
    response = file.message_type.add()
    _add_message(response, "HealthCheckResponse", {"status": (1, "ServingStatus")}, package)
    status = response.enum_type.add(name="ServingStatus")
    for number, name in enumerate(("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")):
        status.value.add(name=name, number=number)
    _add_message(file.message_type.add(), "HealthListRequest", {}, package)
    listed = file.message_type.add()
    _add_message(listed, "HealthListResponse", {}, package)
    entry = listed.nested_type.add()
    _add_message(
        entry, "StatusesEntry", {"key": (1, "string"), "value": (2, "HealthCheckResponse")}, package
    )
    entry.options.map_entry = True
    listed.field.add(
        name="statuses",
        number=1,
        label=FieldDescriptorProto.LABEL_REPEATED,
        type=FieldDescriptorProto.TYPE_MESSAGE,
        type_name=f".{package}.HealthListResponse.StatusesEntry",
    )
    service = file.service.add(name="Health")
    for method, asked, answered in (
        ("Check", "HealthCheckRequest", "HealthCheckResponse"),
        ("List", "HealthListRequest", "HealthListResponse"),
    ):
        service.method.add(
            name=method, input_type=f".{package}.{asked}", output_type=f".{package}.{answered}"
        )
    return file


_REFLECTION: Final[dict[str, dict[str, tuple[int, str]]]] = {
    "ExtensionRequest": {"containing_type": (1, "string"), "extension_number": (2, "int32")},
    "ServerReflectionRequest": {
        "host": (1, "string"),
        "file_by_filename": (3, "string"),
        "file_containing_symbol": (4, "string"),
        "file_containing_extension": (5, "ExtensionRequest"),
        "all_extension_numbers_of_type": (6, "string"),
        "list_services": (7, "string"),
    },
    "FileDescriptorResponse": {"file_descriptor_proto": (1, "*bytes")},
    "ServiceResponse": {"name": (1, "string")},
    "ListServiceResponse": {"service": (1, "*ServiceResponse")},
    "ErrorResponse": {"error_code": (1, "int32"), "error_message": (2, "string")},
    "ServerReflectionResponse": {
        "valid_host": (1, "string"),
        "original_request": (2, "ServerReflectionRequest"),
        "file_descriptor_response": (4, "FileDescriptorResponse"),
        "list_services_response": (6, "ListServiceResponse"),
        "error_response": (7, "ErrorResponse"),
    },
}


def _reflection() -> FileDescriptorProto:
    package = "grpc.reflection.v1"
    file = FileDescriptorProto(
        name="grpc/reflection/v1/reflection.proto", package=package, syntax="proto3"
    )
    for name, fields in _REFLECTION.items():
        message = file.message_type.add()
        _add_message(message, name, fields, package)
        if name.startswith("ServerReflection"):
            choice = "message_request" if name.endswith("Request") else "message_response"
            message.oneof_decl.add(name=choice)
            for field in message.field:
                if field.name not in {"host", "valid_host", "original_request"}:
                    field.oneof_index = 0
    service = file.service.add(name="ServerReflection")
    service.method.add(
        name="ServerReflectionInfo",
        input_type=f".{package}.ServerReflectionRequest",
        output_type=f".{package}.ServerReflectionResponse",
        client_streaming=True,
        server_streaming=True,
    )
    return file


POOL: Final = DescriptorPool()
"""Where these schemas are, and nothing else."""
POOL.Add(_health())
POOL.Add(_reflection())


def _message(name: str) -> Any:  # noqa: ANN401 - its fields are known at run time only
    """The class of a message of the pool."""
    return GetMessageClass(POOL.FindMessageTypeByName(name))


HealthCheckRequest: Final = _message("grpc.health.v1.HealthCheckRequest")
HealthCheckResponse: Final = _message("grpc.health.v1.HealthCheckResponse")
HealthListResponse: Final = _message("grpc.health.v1.HealthListResponse")
ReflectionRequest: Final = _message("grpc.reflection.v1.ServerReflectionRequest")
ReflectionResponse: Final = _message("grpc.reflection.v1.ServerReflectionResponse")
