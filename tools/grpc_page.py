"""Writes docs/grpc.md, the reference of gRPC, from what the contract's own comments say."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
    ServiceDescriptorProto,
)
from grpc_tools import protoc  # type: ignore[import-untyped]

_PROTO = Path(__file__).parents[1] / "proto"
_CONTRACT = "trialogue/v1/conversation.proto"
_WELL_KNOWN = "https://protobuf.dev/reference/protobuf/google.protobuf/#"
#: The numbers of fields in descriptor.proto, which a comment's place is told by.
_MESSAGES, _SERVICES = (
    FileDescriptorProto.MESSAGE_TYPE_FIELD_NUMBER,
    FileDescriptorProto.SERVICE_FIELD_NUMBER,
)
_FIELDS, _METHODS = DescriptorProto.FIELD_FIELD_NUMBER, ServiceDescriptorProto.METHOD_FIELD_NUMBER
_ABOUT = """\
On port 9000; the contract is [conversation.proto](../proto/trialogue/v1/conversation.proto), which
names the package of generated code for each language. How to begin:
[Python](quickstart.md#python-over-grpc), [Go](quickstart.md#go-over-grpc). What turns, cursors and
branches are: [protocol.md](protocol.md). Errors by code: [errors.md](errors.md).
"""


def page(note: str) -> str:
    """Return docs/grpc.md."""
    contract = _described()
    comments = {
        tuple(place.path): " ".join(place.leading_comments.split())
        for place in contract.source_code_info.location
    }
    return "\n".join(
        [
            "# gRPC",
            note,
            _ABOUT,
            *(
                line
                for number, service in enumerate(contract.service)
                for line in _service(contract.package, service, comments, (_SERVICES, number))
            ),
            "## Messages",
            *(
                line
                for number, message in enumerate(contract.message_type)
                for line in _message(message, comments, (_MESSAGES, number))
            ),
        ]
    )


def _described() -> FileDescriptorProto:
    """Return the contract with its comments, which generated code does not carry."""
    well_known = Path(protoc.__file__).parent / "_proto"
    with tempfile.NamedTemporaryFile() as described:
        asked = [f"-I{_PROTO}", f"-I{well_known}", "--include_source_info"]
        code = protoc.main(["", *asked, f"--descriptor_set_out={described.name}", _CONTRACT])
        if code:
            raise ValueError(f"protoc ended with {code}")
        files = FileDescriptorSet.FromString(Path(described.name).read_bytes())
    return files.file[0]


Comments = dict[tuple[int, ...], str]
Place = tuple[int, ...]


def _service(
    package: str, service: ServiceDescriptorProto, comments: Comments, at: Place
) -> Iterator[str]:
    yield from (f"## {package}.{service.name}", "", comments[at], "")
    yield from ("| call | takes | returns | |", "|---|---|---|---|")
    for number, method in enumerate(service.method):
        yield _row(*_call(method), comments[*at, _METHODS, number])
    yield ""


def _call(method: MethodDescriptorProto) -> tuple[str, str, str]:
    stream = "stream of " if method.server_streaming else ""
    return f"`{method.name}`", _link(method.input_type), stream + _link(method.output_type)


def _message(message: DescriptorProto, comments: Comments, at: Place) -> Iterator[str]:
    yield from ("", f"### {message.name}", "")
    if about := comments.get(at):
        yield from (about, "")
    if not message.field:
        yield "It has no fields."
        return
    yield from ("| field | | type | |", "|---|---|---|---|")
    for number, field in enumerate(message.field):
        about = comments.get((*at, _FIELDS, number), "")
        yield _row(f"`{field.name}`", str(field.number), _type(field, message), about)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _type(field: FieldDescriptorProto, message: DescriptorProto) -> str:
    kind = FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
    told = _link(field.type_name) if field.type_name else kind
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return f"repeated {told}"
    if field.proto3_optional:
        return f"optional {told}"
    if field.HasField("oneof_index"):
        return f"{told}, one of `{message.oneof_decl[field.oneof_index].name}`"
    return told


def _link(name: str) -> str:
    short = name.rpartition(".")[2]
    known = name.startswith(".google.protobuf.")
    return f"[{short}]({_WELL_KNOWN}{short.lower()})" if known else f"[{short}](#{short.lower()})"
