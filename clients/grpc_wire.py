"""The terminal client's wire over gRPC: each frame is a call, each message a frame."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

import grpc
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from trialogue.v1 import conversation_pb2 as pb
from trialogue.v1.conversation_pb2_grpc import ConversationServiceStub

from clients.grpc_client import is_lost, open_channel
from clients.websocket_client import CONNECT_SECONDS, LeftError, LostError, ServerRefusedError

#: The call of each frame, and what it takes.
CALLS: Mapping[str, tuple[str, Any]] = {
    "ask": ("Ask", pb.AskRequest),
    "regenerate": ("Regenerate", pb.RegenerateRequest),
    "follow": ("FollowTurn", pb.FollowTurnRequest),
    "watch": ("WatchConversation", pb.WatchConversationRequest),
    "cancel": ("CancelTurn", pb.CancelTurnRequest),
    "conversations": ("ListConversations", pb.ListConversationsRequest),
    "conversation": ("GetConversation", pb.GetConversationRequest),
    "update": ("UpdateConversation", pb.UpdateConversationRequest),
    "delete": ("DeleteConversation", pb.DeleteConversationRequest),
    "withdraw": ("WithdrawAsk", pb.WithdrawAskRequest),
    "messages": ("ListMessages", pb.ListMessagesRequest),
    "context": ("PreviewContext", pb.AskRequest),
    "search": ("SearchMessages", pb.SearchMessagesRequest),
}
#: What a list is called in its own message.
LISTS = {"conversations": "conversations", "messages": "messages", "search": "hits"}
STREAMS = ("ask", "regenerate", "follow", "watch")


class GrpcWire:
    """Frames as gRPC calls; one stream of events at a time."""

    def __init__(self, chosen: argparse.Namespace, *, known: bool = False) -> None:
        self._url: str = chosen.url
        self._channel = open_channel(chosen.url, chosen.ca)
        self._stub: Any = ConversationServiceStub(self._channel)  # type: ignore[no-untyped-call]
        key = chosen.api_key
        self._metadata = (("authorization", f"Bearer {key}"),) if key else ()
        self._stream: Any = None
        self._request_id: str | None = None
        self._answered = known
        self._left = False

    def send(self, frame: dict[str, Any]) -> None:
        fields = {name: of for name, of in frame.items() if of is not None}
        kind, request_id = fields.pop("type"), fields.pop("request_id", None)
        if kind not in STREAMS:
            self.call(kind, **fields)
            return
        self._drop()
        metadata = self._metadata
        if key := fields.pop("idempotency_key", None):
            metadata = (*metadata, ("idempotency-key", key))
        if kind == "watch" and (after := fields.pop("after", None)):
            fields["after_turn_id"], _, fields["after"] = after.rpartition(":")
        name, takes = CALLS[kind]
        self._stream = getattr(self._stub, name)(ParseDict(fields, takes()), metadata=metadata)
        self._request_id = request_id

    def receive(self) -> dict[str, Any]:
        if self._stream is None:
            raise LostError("the connection is gone")
        try:
            event = next(self._stream)
        except grpc.RpcError as error:
            raise LeftError if self._left else self._why(error) from error
        except StopIteration:
            raise LostError("the stream is at its end") from None
        self._answered = True
        return {"request_id": self._request_id, **event_of(event)}

    def call(self, kind: str, **fields: Any) -> dict[str, Any]:
        name, takes = CALLS[kind]
        request = ParseDict(fields, takes())
        try:
            reply = getattr(self._stub, name)(
                request, metadata=self._metadata, timeout=CONNECT_SECONDS
            )
        except grpc.RpcError as error:
            raise self._why(error) from error
        self._answered = True
        told = plain(reply)
        if kind in LISTS:
            data = told.pop(LISTS[kind])
            ends = {"first_id": data[0].get("id"), "last_id": data[-1].get("id")} if data else {}
            told |= {"data": data, **ends}
        return told

    def leave(self) -> None:
        self._left = True
        self._drop()

    def close(self) -> None:
        self._drop()
        self._channel.close()

    def _drop(self) -> None:
        if self._stream is not None:
            self._stream.cancel()

    def _why(self, error: grpc.RpcError) -> Exception:
        message = error.details() or error.code().name
        if is_lost(error):
            if self._answered:
                return LostError("the connection is gone")
            return ServerRefusedError("unreachable", f"{self._url} cannot be reached: {message}.")
        return ServerRefusedError(_code(error), message)


def _code(error: grpc.RpcError) -> str:
    """Return our own code of a refusal."""
    for told in error.trailing_metadata() or ():
        if told.key == "grpc-status-details-bin":
            for detail in Status.FromString(told.value).details:
                info = ErrorInfo()
                if detail.Unpack(info):
                    return str(info.reason).lower()
    return ""


def event_of(event: Any) -> dict[str, Any]:
    """Return an event as the other wires tell it."""
    kind = event.WhichOneof("event")
    said = plain(getattr(event, kind))
    if kind == "delta" and said["part"] is None:
        del said["part"]
    told = {
        "type": f"turn.{kind}",
        "conversation_id": event.conversation_id,
        "turn_id": event.turn_id,
    }
    return {**told, **said} if kind == "progress" else {**told, "cursor": event.cursor, **said}


def plain(message: Message) -> dict[str, Any]:
    """Return a message as a dictionary: numbers are numbers, what is not set is None."""
    told: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.is_repeated:
            told[field.name] = [_value(one) for one in value]
        elif field.has_presence and not message.HasField(field.name):
            told[field.name] = None
        else:
            told[field.name] = _value(value)
    return told


def _value(value: Any) -> Any:
    if isinstance(value, Timestamp):
        return value.ToJsonString()
    if not isinstance(value, Message):
        return value
    if value.DESCRIPTOR.file.package == "google.protobuf":
        return MessageToDict(value)
    return plain(value)
