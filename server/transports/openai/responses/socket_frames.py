"""The frames of a websocket at `/v1/responses`, as they are read and written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from server.openai_protocol.codec import encode
from server.openai_protocol.errors import ApiError, unsupported
from server.openai_protocol.fields import Fields
from server.transports.openai.body import read_json
from server.transports.openai.errors import refusal

CREATE: Final = "response.create"
STEER: Final = "response.steer"
#: What of a frame is no field of a request; a stream is what a websocket is.
_OWN: Final = ("type", "stream_id", "generate", "stream")


@dataclass(frozen=True, slots=True)
class Frame:
    """What a client said; `lane` is its stream_id, which all that answers it repeats."""

    kind: str
    asked: Fields
    lane: str | None
    #: False: a response is prepared, and nobody is asked for an answer
    generate: bool
    #: in bytes
    size: int


def read(message: str | bytes) -> Frame:
    """Read a frame. Raises ApiError."""
    if isinstance(message, bytes):
        raise ApiError("Binary frames are not supported: send JSON as text.")
    data = message.encode()
    given = read_json(data)
    given.required("type")
    kind = given.one_of("type", (CREATE, STEER)) or CREATE
    lane = given.text("stream_id")
    generate = given.raw("generate") is None or given.flag("generate")
    asked = Fields({name: value for name, value in given.values.items() if name not in _OWN})
    if asked.raw("background"):
        raise unsupported("background")
    if not generate and asked.raw("conversation") is not None:
        raise ApiError("Nothing can be prepared in a conversation.", "generate")
    return Frame(kind, asked, lane, generate, len(data))


def in_lane(event: bytes, lane: str | None) -> bytes:
    """Return an encoded event with the lane that it is of."""
    return event if lane is None else b'%b,"stream_id":%b}' % (event[:-1], encode(lane))


def error(why: BaseException, lane: str | None = None) -> tuple[int, bytes]:
    """Return the status of an error, and the frame that tells it; here the code is always said."""
    answer = refusal(why)
    told = {**orjson.loads(answer.body)["error"], "headers": _told_beside(answer.headers)}
    told["code"] = told["code"] or told["type"]
    frame = {"type": "error", "status": answer.status_code, "error": told}
    return answer.status_code, in_lane(encode(frame), lane)


def not_steered(frame: Frame) -> bytes:
    """Return the answer to input for a response that is being written. Raises ApiError."""
    named = ("previous_response_id", "input")
    failed = {
        "type": "response.steer.failed",
        "sequence_number": 0,
        "steer": {name: frame.asked.required(name) for name in named},
        "error": {
            "type": "invalid_request_error",
            "code": "steering_not_supported",
            "message": "Responses cannot be steered here; send the input when this one has ended.",
        },
    }
    return in_lane(encode(failed), frame.lane)


def _told_beside(headers: Mapping[str, Any]) -> dict[str, str]:
    """Return what a client may act on: a frame has no headers of its own."""
    return {name: headers[name] for name in ("retry-after",) if name in headers}
