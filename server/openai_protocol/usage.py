"""Counts what a completion used, for an upstream that does not tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from server.openai_protocol.expectations import TEXTS, asked_of
from server.tokens.encoding import Encoding, encoding
from server.tokens.request import encoding_name, prompt_tokens

#: the last two are two names for the same words
_TEXTS = frozenset({"content", "text", "refusal", "reasoning_content", "reasoning"})


class UsageCounter:
    """Collects what an answer says, whole or piece by piece, until it is counted."""

    def __init__(self) -> None:
        self._texts: dict[tuple[object, ...], list[str]] = {}

    def add(self, index: int, said: Mapping[str, Any]) -> None:
        """Take a message, a delta, or the choice of a text completion."""
        for name, value in said.items():
            if type(value) is str:
                if name in _TEXTS and not (name == "reasoning" and said.get("reasoning_content")):
                    self._texts.setdefault((index, name), []).append(value)
            elif isinstance(value, list) and name == "tool_calls":
                for place, call in enumerate(_dicts(value)):
                    number = call.get("index")
                    key = (index, number if type(number) is int else place)
                    self._add(key, call.get("function") or call.get("custom"))
            elif value and name == "function_call":
                self._add((index,), value)

    def usage(self, path: str, model: str, body: bytes) -> dict[str, int]:
        """Return OpenAI's usage object of a call; a long one takes a while to count."""
        words = encoding(encoding_name(model))
        asked = asked_of(body)
        texts = path == TEXTS
        prompt = _texts(asked.get("prompt"), words) if texts else _chat(asked, model)
        completion = sum(words.count("".join(pieces)) for pieces in self._texts.values())
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        }

    def _add(self, key: tuple[object, ...], called: object) -> None:
        """Take what is called, or a piece of it: a function's arguments, a custom tool's input."""
        if isinstance(called, dict):
            for name in ("name", "arguments", "input"):
                if isinstance(text := called.get(name), str):
                    self._texts.setdefault((*key, name), []).append(text)


def _chat(asked: Mapping[str, Any], name: str) -> int:
    messages = asked.get("messages")
    said = [_message(one) for one in _dicts(messages)] if isinstance(messages, list) else []
    return prompt_tokens(name, said, _functions(asked))


def _texts(prompt: Any, words: Encoding) -> int:
    """Count a prompt, which may be a text, tokens, or several of either."""
    match prompt:
        case str():
            return words.count(prompt)
        case [int(), *_]:
            return len(prompt)
        case list():
            return sum(words.count(one) if isinstance(one, str) else len(one) for one in prompt)
        case _:
            return 0


def _message(said: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a message is counted; what has not its right shape is left out."""
    content, name, called = said.get("content"), said.get("name"), said.get("function_call")
    calls = said.get("tool_calls")
    return {
        "role": str(said.get("role")),
        "content": _dicts(content) if isinstance(content, list) else str(content or ""),
        "name": name if isinstance(name, str) else None,
        "tool_calls": _dicts(calls) if isinstance(calls, list) else [],
        "function_call": called if isinstance(called, dict) else None,
    }


def _functions(asked: Mapping[str, Any]) -> list[dict[str, Any]]:
    tools, functions = asked.get("tools"), asked.get("functions")
    offered = [tool.get("function") for tool in _dicts(tools)] if isinstance(tools, list) else []
    return _dicts([*offered, *(functions if isinstance(functions, list) else ())])


def _dicts(items: list[Any]) -> list[dict[str, Any]]:
    return [item for item in items if isinstance(item, dict)]
