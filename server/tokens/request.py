"""How many tokens a request takes, tools included, as OpenAI counts them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tiktoken.model import MODEL_TO_ENCODING

from server.tokens.counting import content_tokens, message_cost, shape
from server.tokens.encoding import ENCODINGS, Encoding, encoding
from server.tokens.models import base_name, model

# What tools cost is told in OpenAI's cookbook, "How to count tokens with tiktoken".
_FUNCTION = 7
_FUNCTION_OF_OLD = 10
_PROPERTIES = 3
_PROPERTY = 3
_ENUM = -3
_ENUM_VALUE = 3
_TOOLS_END = 12


def encoding_name(model_name: str) -> str:
    """Return the name of a model's encoding; o200k_base where nobody has told."""
    told = MODEL_TO_ENCODING.get(base_name(model_name))
    return told if told in ENCODINGS else model(model_name).encoding


def prompt_tokens(
    model_name: str, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()
) -> int:
    """Count a chat as it was sent: its messages, and the functions that it offers."""
    rules, words = shape(model_name), encoding(encoding_name(model_name))
    tokens = rules.priming
    for message in messages:
        calls = [*(message.get("tool_calls") or ()), {"call": message.get("function_call") or {}}]
        said = [{"call": _without_id(call)} for call in calls]
        name = message.get("name")
        content = message.get("content") or ""
        tokens += message_cost(rules, words, message["role"], content, name)
        tokens += content_tokens(words, said)
    return tokens + _tools_tokens(words, tools)


def text_tokens(model_name: str, text: str) -> int:
    return encoding(encoding_name(model_name)).count(text)


def usage(prompt: int, completion: int) -> dict[str, Any]:
    """Return OpenAI's usage object; nothing is cached, reasoned or spoken aloud here."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _without_id(call: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in call.items() if name != "id"}


def _tools_tokens(words: Encoding, tools: Iterable[Mapping[str, Any]]) -> int:
    of_old = words.name == "cl100k_base"
    each = _FUNCTION_OF_OLD if of_old else _FUNCTION
    counted = [each + _tool_tokens(words, tool) for tool in tools]
    return sum(counted) + _TOOLS_END if counted else 0


def _tool_tokens(words: Encoding, tool: Mapping[str, Any]) -> int:
    about = str(tool.get("description") or "").removesuffix(".")
    tokens = words.count(f"{tool.get('name')}:{about}")
    parameters = tool.get("parameters")
    properties = parameters.get("properties") if isinstance(parameters, Mapping) else None
    if not isinstance(properties, Mapping) or not properties:
        return tokens
    named = [(name, part) for name, part in properties.items() if isinstance(part, Mapping)]
    return tokens + _PROPERTIES + sum(_property_tokens(words, name, part) for name, part in named)


def _property_tokens(words: Encoding, name: str, part: Mapping[str, Any]) -> int:
    about = str(part.get("description") or "").removesuffix(".")
    tokens = _PROPERTY + words.count(f"{name}:{part.get('type')}:{about}")
    if isinstance(part.get("enum"), list):
        tokens += _ENUM + sum(_ENUM_VALUE + words.count(str(value)) for value in part["enum"])
    return tokens
