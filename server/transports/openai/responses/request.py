"""What a request for a response asks, read and refused as OpenAI's API does."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from server.core import validation as kept
from server.core.completions import labels
from server.core.errors import ContextLengthError, InvalidRequestError, RefusedError
from server.core.turns.placement import Utterance
from server.core.turns.questions import ROOT, Ask, Responding
from server.core.turns.tools import checked_options
from server.openai_protocol import errors
from server.openai_protocol.errors import ApiError
from server.openai_protocol.fields import Fields
from server.transports.openai import validation
from server.transports.openai.responses.tools import offered, options_of, shown, verbosity_of

#: How an answer is told is no part of what it says.
_MANNERS: Final = ("stream", "stream_options")
_UNSUPPORTED: Final = ("prompt",)
_LOGPROBS: Final = "message.output_text.logprobs"
_INCLUDES: Final = (
    *("file_search_call.results", "web_search_call.results", "web_search_call.action.sources"),
    *("message.input_image.image_url", "computer_call_output.output.image_url"),
    *("code_interpreter_call.outputs", "reasoning.encrypted_content", _LOGPROBS),
)
#: Told again in the response as they were asked.
_TOLD: Final = (
    *("instructions", "max_output_tokens", "max_tool_calls", "prompt_cache_key", "user"),
    *("safety_identifier", "temperature", "tool_choice", "top_p", "truncation"),
    *("parallel_tool_calls", "previous_response_id", "background", "store"),
)
#: Passed on to the upstream as they are.
_PASSED: Final = ("user", "prompt_cache_key", "safety_identifier", "service_tier")
_TIERS: Final = ("auto", "default", "flex", "scale", "priority", "fast")
_LEAST_TOKENS: Final = 16


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request for a response, but for its input and where it stands."""

    asked: Fields
    model: str
    stream: bool
    background: bool
    store: bool
    #: ids as they were given
    previous: str | None
    conversation: str | None

    @property
    def in_line(self) -> bool:
        """Whether it is kept; what names a conversation is, though it may not be found again."""
        return self.store or self.conversation is not None


def wanted_of(asked: Fields) -> Wanted:
    """Read all of a request but its input. Raises RefusedError, or InvalidRequestError."""
    for name, value in asked.values.items():
        kept.spoken({name: value}, name)
    model = validation.model(asked)
    for name in _UNSUPPORTED:
        if asked.raw(name) is not None:
            raise errors.unsupported(name)
    _check_fields(asked)
    store = asked.raw("store") is None or asked.flag("store")
    background = asked.flag("background")
    if background and not store:
        raise ApiError("Background mode requires 'store' to be true.", "background")
    previous, conversation = asked.text("previous_response_id"), conversation_of(asked)
    if previous is not None and conversation is not None:
        raise ApiError(
            "Mutually exclusive parameters: 'previous_response_id' and 'conversation'. Ensure you "
            "are only providing one of them.",
            code="mutually_exclusive_parameters",
        )
    stream = asked.flag("stream")
    return Wanted(asked, model, stream, background, store, previous, conversation)


def conversation_of(asked: Fields) -> str | None:
    """Return the conversation that a request names, by its id or as an object with one."""
    if not isinstance(asked.raw("conversation"), dict):
        return asked.text("conversation")
    named = asked.part("conversation")
    return None if named is None else str(named.required("id"))


def question_of(
    wanted: Wanted, said: Sequence[Utterance], parent_id: str | None, key: str | None
) -> Ask:
    """Return the question that a request is, under the answer of the response before."""
    asked = wanted.asked
    options = checked_options(options_of(asked))
    passed = {name: asked.raw(name) for name in _PASSED if asked.raw(name) is not None}
    verbosity = verbosity_of(asked)
    return Ask(
        said[-1].content,
        model=wanted.model,
        max_tokens=asked.integer("max_output_tokens"),
        temperature=asked.decimal("temperature", 0, 2),
        top_p=asked.decimal("top_p", 0, 1),
        parent_id=parent_id or (None if wanted.conversation else ROOT),
        idempotency_key=key,
        digest="" if key is None else _digest(asked),
        options=options,
        extra=passed | ({"verbosity": verbosity} if verbosity else {}),
        response=Responding(
            said=tuple(said),
            record=_record(wanted),
            instructions=asked.text("instructions") or None,
            named=wanted.conversation is not None,
            free=parent_id is not None,
            whole=asked.text("truncation") != "auto",
            background=wanted.background,
        ),
    )


def as_theirs(error: RefusedError) -> RefusedError:
    """Return a refusal as a client of this API knows it."""
    if isinstance(error, ContextLengthError):
        error.param = "input"
    elif error.param == "response_format":
        return InvalidRequestError(str(error).replace(error.param, "text.format"), "text.format")
    return error


def _check_fields(asked: Fields) -> None:
    for name in ("user", "prompt_cache_key", "safety_identifier", "instructions"):
        asked.text(name)
    asked.integer("max_output_tokens", _LEAST_TOKENS)
    asked.integer("max_tool_calls", 1)
    asked.one_of("truncation", ("auto", "disabled"))
    asked.one_of("service_tier", _TIERS)
    asked.part("stream_options")
    if asked.integer("top_logprobs", 0, 20):
        raise errors.unsupported("top_logprobs")
    includes = asked.raw("include")
    if includes is not None and not isinstance(includes, list):
        raise errors.mistyped("include", "an array of strings", includes)
    for place, one in enumerate(includes or ()):
        if one not in _INCLUDES:
            raise errors.unknown_value(f"include[{place}]", one, _INCLUDES)
        if one == _LOGPROBS:
            raise errors.unsupported("include")


def _record(wanted: Wanted) -> Mapping[str, Any]:
    """Return what is kept of a request to be told again with its response."""
    asked = wanted.asked
    told = {name: asked.raw(name) for name in _TOLD if asked.raw(name) is not None}
    for name in ("temperature", "top_p"):
        if name in told:
            told[name] = float(told[name])
    metadata = asked.part("metadata")
    told["metadata"] = dict(labels(metadata.values)) if metadata else {}
    told["tools"] = [shown(tool.values) for tool in offered(asked)]
    if wanted.conversation is not None:
        told["conversation"] = {"id": wanted.conversation}
    if (text := asked.raw("text")) is not None:
        told["text"] = {"format": {"type": "text"}, **{k: v for k, v in text.items() if v}}
    if (reasoning := asked.raw("reasoning")) is not None:
        told["reasoning"] = {"effort": None, "summary": None, **reasoning}
    if asked.raw("service_tier") not in (None, "auto"):
        told["service_tier"] = asked.raw("service_tier")
    return told


def _digest(asked: Fields) -> str:
    said = {name: value for name, value in asked.values.items() if name not in _MANNERS}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
