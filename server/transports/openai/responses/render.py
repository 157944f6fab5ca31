"""A turn as a response object, every field of OpenAI's and of Open Responses'."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from server.core.errors import Code
from server.core.ids import answer_id
from server.openai_protocol.errors import one_line
from server.transports.openai.responses.ids import response_id
from server.transports.openai.responses.items import (
    COMPLETED,
    IN_PROGRESS,
    INCOMPLETE,
    output_of,
)
from server.transports.openai.responses.tools import tool_of_chat
from storage.model import Failure, Status, Turn, Usage

#: What a response says that asked for nothing special.
DEFAULTS: Final[Mapping[str, Any]] = {
    "background": False,
    "conversation": None,
    "frequency_penalty": 0.0,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "presence_penalty": 0.0,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "service_tier": "default",
    "store": True,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}
_CUT: Final = {"length": "max_output_tokens", "content_filter": "content_filter"}
_CODES: Final = {
    Code.RATE_LIMIT_EXCEEDED: "rate_limit_exceeded",
    Code.INSUFFICIENT_QUOTA: "rate_limit_exceeded",
    Code.UPSTREAM_REJECTED: "invalid_prompt",
    Code.CONTEXT_LENGTH_EXCEEDED: "invalid_prompt",
}
_LEFT: Final = Failure("server_error", "The server was stopped before the answer was whole.")


def answer_of_turn(turn: Turn) -> str:
    """Return the id of the message that answers a turn, kept already or not."""
    return turn.answer_id or answer_id(turn.id)


def status_of(turn: Turn) -> str:
    match turn.status:
        case Status.RUNNING:
            return IN_PROGRESS
        case Status.COMPLETED:
            return INCOMPLETE if turn.finish_reason in _CUT else COMPLETED
        case Status.CANCELLED:
            return "cancelled"
        case _:
            return "failed"


def last_status(turn: Turn) -> str:
    """Return the status of the last item of an answer, which may have been cut off."""
    status = status_of(turn)
    return status if status in (COMPLETED, IN_PROGRESS) else INCOMPLETE


def response_of(turn: Turn) -> dict[str, Any]:
    """Return a turn as a response: of one that is being written, what it says so far."""
    status, ended = status_of(turn), turn.ended_at
    reason = _CUT.get(turn.finish_reason or "") if status == INCOMPLETE else None
    return {
        **DEFAULTS,
        **(_offered(turn) if turn.record is None else turn.record),
        "id": response_id(turn.id),
        "object": "response",
        "created_at": turn.created_at // 1_000_000,
        "status": status,
        "completed_at": ended // 1_000_000 if ended and status == COMPLETED else None,
        "error": _error(turn),
        "incomplete_details": None if reason is None else {"reason": reason},
        "model": turn.model,
        "output": output_of(turn, answer_of_turn(turn), last_status(turn)),
        "usage": None if turn.usage is None else usage_of(turn.usage),
    }


def usage_of(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_tokens or 0,
            "cache_write_tokens": 0,
        },
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens or 0},
        "total_tokens": usage.total_tokens,
    }


def _error(turn: Turn) -> dict[str, Any] | None:
    if turn.status not in (Status.FAILED, Status.INTERRUPTED):
        return None
    error = turn.error or _LEFT
    code = next((told for ours, told in _CODES.items() if ours == error.code), "server_error")
    return {"code": code, "message": one_line(error.message)}


def _offered(turn: Turn) -> dict[str, Any]:
    """Return what a turn of another wire was asked with."""
    return {"tools": [tool_of_chat(tool) for tool in turn.options.get("tools") or ()]}
