"""What the word means that an upstream ends an answer with, whichever server's word it is."""

from __future__ import annotations

from typing import Final

from server.openai_protocol.codec import MalformedError

#: OpenAI's own words
_OURS: Final = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})
#: other servers' words, in small letters; one that is not here is a stop
_THEIRS: Final = {
    **dict.fromkeys(("max_tokens", "max_length", "max_output_tokens", "model_length"), "length"),
    **dict.fromkeys(("tool_use", "tool_call"), "tool_calls"),
    **dict.fromkeys(
        ("safety", "recitation", "blocklist", "prohibited_content", "spii", "content_filtered"),
        "content_filter",
    ),
}
#: words for an answer that was broken off
_BROKEN: Final = frozenset(
    {
        *("error", "error_finish", "abort", "aborted", "cancel", "canceled", "cancelled"),
        *("timeout", "timed_out", "interrupted", "incomplete", "failed"),
        *("insufficient_system_resource", "malformed_function_call", "network_error"),
    }
)
#: words of servers that write their nothing out: the answer goes on
_NONE: Final = frozenset({"null", "none"})


def ending(reason: object, otherwise: str = "stop") -> str | None:
    """Return an ending in OpenAI's words, `otherwise` if nobody knows it; None: it goes on.

    Raises MalformedError for one that is no word, or says that the answer is not whole.
    """
    if not reason:
        return None
    if not isinstance(reason, str):
        raise MalformedError("the upstream sent something that cannot be read")
    if reason in _OURS:
        return reason
    word = reason.lower()
    if word in _BROKEN:
        raise MalformedError("the upstream broke its answer off")
    if word in _NONE:
        return None
    return word if word in _OURS else _THEIRS.get(word, otherwise)
