import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from bbr.pb import ext_proc_pb2, health_pb2
from tests.support.late import late

api = late("tests.support.envoy_api")

# Ours is int32 where Envoy's is an enum; the two share one encoding.
DECLARED_AS_INT = ("HttpStatus", "code")
# Ours is bytes where Envoy's is a message, which has the same encoding: it is decoded only if it is wanted.
LEFT_ENCODED = {
    ("HeaderMap", "headers"): ext_proc_pb2.HeaderValue,
    ("ProcessingRequest", "metadata_context"): ext_proc_pb2.Metadata,
}

# Ours are the encoded entries of what is a map of Envoy's; Envoy's API has no name for an entry.
LEFT_MAPS = {("ProcessingRequest", "attributes"): ext_proc_pb2.AttributesEntry}

KINDS = {
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_BYTES: "bytes",
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_INT32: "int32",
    FieldDescriptor.TYPE_ENUM: "enum",
    FieldDescriptor.TYPE_MESSAGE: "message",
}


def messages(types: dict[str, Descriptor]) -> Iterator[Descriptor]:
    for each in types.values():
        if not each.GetOptions().map_entry and each not in [entry.DESCRIPTOR for entry in LEFT_MAPS.values()]:
            yield each
            yield from messages(each.nested_types_by_name)


def left_encoded(field: FieldDescriptor) -> type[Message] | None:
    return LEFT_ENCODED.get((field.containing_type.name, field.name))


def left_map(field: FieldDescriptor) -> type[Message] | None:
    return LEFT_MAPS.get((field.containing_type.name, field.name))


def is_map(field: FieldDescriptor) -> bool:
    return bool(field.message_type and field.message_type.GetOptions().map_entry)


def kind_of(field: FieldDescriptor) -> str:
    return "map" if is_map(field) or left_map(field) else KINDS[field.type]


def enums(file: Any) -> Iterator[EnumDescriptor]:
    yield from file.enum_types_by_name.values()
    for each in messages(file.message_types_by_name):
        yield from each.enum_types


MESSAGES = list(messages(ext_proc_pb2.DESCRIPTOR.message_types_by_name))
FIELDS = [field for message in MESSAGES for field in message.fields]
ENUMS = list(enums(ext_proc_pb2.DESCRIPTOR))


def own_name(descriptor: Any) -> str:
    return descriptor.full_name.removeprefix(ext_proc_pb2.DESCRIPTOR.package + ".")


def theirs_of(name: str) -> Any:
    theirs = (api.ext_proc, api.core, api.ext_proc_filter, api.envoy_type, api.google)
    found = [getattr(module, name) for module in theirs if hasattr(module, name)]
    assert found, f"Envoy's API has no {name}"
    return found[0]


def their_class(descriptor: Descriptor | EnumDescriptor) -> Any:
    return theirs_of(own_name(descriptor).replace(".", ""))


def their_metadata(theirs: Any) -> dict[str, Any]:
    return {field.name: field.metadata["betterproto"] for field in dataclasses.fields(theirs)}


def our_sample(descriptor: Descriptor, only: FieldDescriptor | None = None) -> Message:
    """Set `only`, or else every field that does not displace another one of its oneof, to other than its default."""
    message = GetMessageClass(descriptor)()
    count = itertools.count(1)
    for field in [only] if only else descriptor.fields:
        if not only and field.containing_oneof and field.containing_oneof.fields[0] != field:
            continue
        if is_map(field):
            value_type = field.message_type.fields_by_name["value"]
            getattr(message, field.name)["a key"].CopyFrom(our_value(value_type, next(count)))
        elif entry := left_map(field):
            getattr(message, field.name).append(our_sample(entry.DESCRIPTOR).SerializeToString())
        elif field.is_repeated:
            values = [our_value(field, next(count)) for _ in range(2)]
            for value in values:
                if field.message_type:
                    getattr(message, field.name).add().CopyFrom(value)
                else:
                    getattr(message, field.name).append(value)
        elif field.message_type:
            getattr(message, field.name).CopyFrom(our_value(field, next(count)))
        else:
            setattr(message, field.name, our_value(field, next(count)))
    return message


def our_value(field: FieldDescriptor, salt: int) -> Any:
    if message := left_encoded(field):
        return our_sample(message.DESCRIPTOR).SerializeToString()
    match KINDS[field.type]:
        case "message":
            return our_sample(field.message_type)
        case "enum":
            return field.enum_type.values[-1].number
        case "string":
            return f"{field.name}-{salt} é"
        case "bytes":
            return f"{field.name}-{salt}".encode() + b"\xff\x00"
        case "bool":
            return True
        case kind:
            assert kind == "int32"
            return 404


def their_sample(theirs: Any, only: str | None = None, depth: int = 4) -> Any:
    values: dict[str, Any] = {}
    groups = set()
    for name, metadata in their_metadata(theirs).items():
        if only not in (None, name) or metadata.group in groups or (only is None and depth == 0):
            continue
        if metadata.group:
            groups.add(metadata.group)
        value = their_value(theirs, name, metadata, depth)
        values[name] = [value, value] if metadata.repeated else value
    return theirs(**values)


def their_value(theirs: Any, name: str, metadata: Any, depth: int) -> Any:
    classes = theirs._betterproto.cls_by_field
    match metadata.proto_type:
        case "map":
            return {"a key": their_sample(classes[f"{name}.value"], depth=depth - 1)}
        case "message" if metadata.unwrap:
            return True
        case "message":
            return their_sample(classes[name], depth=depth - 1)
        case "enum":
            return list(classes[name])[-1]
        case "string":
            return f"{name} é"
        case "bytes":
            return name.encode() + b"\xff\x00"
        case "bool":
            return True
        case "double" | "float":
            return 0.5
        case _:
            return 77


def plain(message: Message) -> dict[str, Any]:
    """Return what is set in one of our messages as nested dicts."""
    found = {}
    for field, value in message.ListFields():
        if is_map(field):
            found[field.name] = {key: plain(each) for key, each in value.items()}
            continue
        if entry := left_map(field):
            found[field.name] = {each.key: plain(each.value) for each in map(entry.FromString, value)}
            continue
        one = plain if field.message_type else _same
        if encoded := left_encoded(field):
            value = map(encoded.FromString, value) if field.is_repeated else encoded.FromString(value)
            one = plain
        found[field.name] = [one(each) for each in value] if field.is_repeated else one(value)
    return found


def their_plain(message: Any) -> dict[str, Any]:
    """Return what is set in one of their messages as nested dicts; fails if it holds fields that they do not know."""
    assert message._unknown_fields == b""
    found = {}
    for name, metadata in their_metadata(type(message)).items():
        value = getattr(message, name)
        if value is None or (not metadata.optional and not value):
            continue
        if metadata.proto_type == "map":
            found[name] = {key: their_plain(each) for key, each in value.items()}
            continue
        one = their_plain if metadata.proto_type == "message" else int if metadata.proto_type == "enum" else _same
        found[name] = [one(each) for each in value] if metadata.repeated else one(value)
    return found


def _same(value: Any) -> Any:
    return value


@pytest.mark.parametrize("field", FIELDS, ids=own_name)
def test_field_has_envoys_number_and_type(field):
    theirs = their_metadata(their_class(field.containing_type))[field.name]
    kind = "enum" if (own_name(field.containing_type), field.name) == DECLARED_AS_INT else kind_of(field)
    kind = "message" if left_encoded(field) else kind
    oneof = field.containing_oneof.name if field.containing_oneof else None
    assert (field.number, kind, field.is_repeated and kind != "map", oneof) == (
        theirs.number,
        theirs.proto_type,
        theirs.repeated,
        theirs.group,
    )


@pytest.mark.parametrize("enum", ENUMS, ids=own_name)
def test_enum_has_envoys_names_and_numbers(enum):
    assert {value.name: value.number for value in enum.values} == {
        value.name: value.value for value in their_class(enum)
    }


@pytest.mark.parametrize("field", FIELDS, ids=own_name)
def test_ours_to_theirs_to_ours(field):
    ours = our_sample(field.containing_type, field)
    octets = ours.SerializeToString()
    theirs = their_class(field.containing_type).parse(octets)
    assert their_plain(theirs) == plain(ours) != {}
    assert type(ours).FromString(bytes(theirs)) == ours


@pytest.mark.parametrize("message", MESSAGES, ids=own_name)
def test_ours_to_theirs_to_ours_with_all_fields(message):
    ours = our_sample(message)
    theirs = their_class(message).parse(ours.SerializeToString())
    assert their_plain(theirs) == plain(ours)
    assert type(ours).FromString(bytes(theirs)) == ours


@pytest.mark.parametrize(
    ("field", "value"),
    [(field, value) for field in FIELDS if field.enum_type for value in field.enum_type.values],
    ids=lambda each: own_name(each) if isinstance(each, FieldDescriptor) else each.name,
)
def test_enum_value_to_theirs(field, value):
    ours = GetMessageClass(field.containing_type)(**{field.name: value.number})
    theirs = their_class(field.containing_type).parse(ours.SerializeToString())
    assert getattr(theirs, field.name).name == value.name


# betterproto warns when a deprecated field is set, and this test sets every field.
@pytest.mark.filterwarnings(
    "ignore:HeaderValueOption.append is deprecated:DeprecationWarning",
    "ignore:HttpHeaders.attributes is deprecated:DeprecationWarning",
)
@pytest.mark.parametrize("message", MESSAGES, ids=own_name)
def test_theirs_to_ours_to_theirs(message):
    theirs, ours = their_class(message), GetMessageClass(message)
    assert their_metadata(theirs)
    for name in their_metadata(theirs):
        sent = their_sample(theirs, name)
        again = theirs.parse(ours.FromString(bytes(sent)).SerializeToString())
        assert again == sent
        assert again._unknown_fields == b""
        assert getattr(again, name) == getattr(sent, name)


@pytest.mark.parametrize("message", MESSAGES, ids=own_name)
def test_fields_of_the_future_survive(message):
    future = b"\xf2\x3e\x06future"  # field 1006, 6 octets
    ours = our_sample(message)
    octets = ours.SerializeToString() + future
    assert type(ours).FromString(octets).SerializeToString() == octets
    theirs = their_class(message).parse(octets)
    assert theirs._unknown_fields == future
    assert type(ours).FromString(bytes(theirs)).SerializeToString() == octets


# grpc.health.v1 is not part of envoy-data-plane: its octets are written here by hand, from health.proto.
HEALTH = [
    ("no service", health_pb2.HealthCheckRequest(), b""),
    ("a service", health_pb2.HealthCheckRequest(service="a.B"), b"\x0a\x03a.B"),
    ("unknown", health_pb2.HealthCheckResponse(status=0), b""),
    ("serving", health_pb2.HealthCheckResponse(status="SERVING"), b"\x08\x01"),
    ("not serving", health_pb2.HealthCheckResponse(status="NOT_SERVING"), b"\x08\x02"),
    ("service unknown", health_pb2.HealthCheckResponse(status="SERVICE_UNKNOWN"), b"\x08\x03"),
    ("list", health_pb2.HealthListRequest(), b""),
    (
        "list of one",
        health_pb2.HealthListResponse(statuses={"a.B": health_pb2.HealthCheckResponse(status="SERVING")}),
        b"\x0a\x09" + b"\x0a\x03a.B" + b"\x12\x02\x08\x01",
    ),
]


@pytest.mark.parametrize(("message", "octets"), [case[1:] for case in HEALTH], ids=[case[0] for case in HEALTH])
def test_health_octets(message, octets):
    assert message.SerializeToString() == octets
    assert type(message).FromString(octets) == message


def test_health_octets_cover_every_field_and_enum_value():
    def walk(message):
        seen.add(type(message).DESCRIPTOR)
        for field, value in message.ListFields():
            seen.add(field)
            if field.enum_type:
                seen.add(field.enum_type.values_by_number[value])
            elif field.message_type:
                assert field.message_type.GetOptions().map_entry
                seen.update((field.message_type, *field.message_type.fields))
                for each in value.values():
                    walk(each)

    seen = set()
    for case in HEALTH:
        walk(case[1])
    declared = set(health_pb2.DESCRIPTOR.message_types_by_name.values())
    declared |= {nested for message in declared for nested in message.nested_types}
    fields = {field for message in declared for field in message.fields}
    values = {value for enum in enums(health_pb2.DESCRIPTOR) for value in enum.values if value.number}
    assert seen == declared | fields | values


def test_no_file_of_ours_claims_a_name_outside_our_packages():
    for file in (ext_proc_pb2.DESCRIPTOR, health_pb2.DESCRIPTOR):
        assert file.package.startswith("bbr.")
        assert file.name.startswith("bbr/pb/")
        assert not file.services_by_name
        assert not file.dependencies
