"""A problem as a gRPC status with google.rpc details."""

from __future__ import annotations

import math
from dataclasses import dataclass

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from server.core.errors import Problem
from server.transports.status import WIRE

DOMAIN = "trialogue"
DETAILS_KEY = "grpc-status-details-bin"
#: In bytes. Trailers of 8 KiB are all that a client takes; a message stands in them twice, encoded.
LONGEST_MESSAGE = 1000

Metadata = tuple[tuple[str, str | bytes], ...]


class ProblemError(Exception):
    """A problem that is described already, such as the failure of a turn."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Refusal:
    """A status with its text and trailers, as `context.abort` takes them."""

    code: grpc.StatusCode
    message: str
    trailers: Metadata


def refusal(of: Problem) -> Refusal:
    """Return a problem as the status that ends a call."""
    code, message = WIRE[of.code].grpc, _short(of.message)
    number: int = code.value[0]
    status = Status(code=number, message=message, details=map(_packed, _details(of)))
    return Refusal(code, message, ((DETAILS_KEY, status.SerializeToString()),))


def _details(of: Problem) -> list[Message]:
    told = {"param": _short(of.param)} if of.param is not None else {}
    details: list[Message] = [ErrorInfo(reason=of.code.upper(), domain=DOMAIN, metadata=told)]
    if of.retry_after is not None:
        fraction, seconds = math.modf(of.retry_after)
        delay = Duration(seconds=int(seconds), nanos=int(fraction * 1e9))
        details.append(RetryInfo(retry_delay=delay))
    return details


def _packed(detail: Message) -> Any:
    packed = Any()
    packed.Pack(detail)
    return packed


def _short(text: str) -> str:
    """Cut what a trailer cannot carry: length, and halves of surrogate pairs."""
    return text.encode(errors="replace")[:LONGEST_MESSAGE].decode(errors="ignore")
