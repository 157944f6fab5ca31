"""Put a streamed chat completion together again as the one answer that it is."""

from __future__ import annotations

from typing import Any

from server.openai_protocol.codec import parse
from server.openai_protocol.sse import data_of

#: what a chunk has that is not the whole answer's
_PASSING = frozenset({"object", "choices", "usage", "error", "obfuscation"})
_OF_CHOICE = frozenset({"index", "delta", "logprobs", "finish_reason"})
#: texts that come piece by piece; any other is a label, which is the same however often it comes
_PIECES = frozenset(
    {
        "content",
        "refusal",
        "arguments",
        "input",
        "text",
        "thinking",
        "summary",
        "transcript",
        "data",
    }
)


class Assembler:
    """Takes the events of a stream, each whole; see `chunks`."""

    def __init__(self) -> None:
        self._head: dict[str, Any] = {}
        self._choices: dict[int, dict[str, Any]] = {}
        self.usage: dict[str, Any] | None = None
        #: an error was told inside the stream, which is its end
        self.error: dict[str, Any] | None = None
        #: nothing may follow
        self.done = False

    def take(self, event: bytes) -> dict[str, Any]:
        """Add an event and return its chunk; an empty one for the stream's end."""
        data = data_of(event)
        if data.startswith(b"[DONE]"):
            self.done = True
            return {}
        chunk, _ = parse(data)
        if error := chunk.get("error"):
            self.error = error
            return chunk
        _note(self._head, chunk, _PASSING)
        self.usage = chunk.get("usage") or self.usage
        for said in chunk["choices"]:
            self._add(said)
        return chunk

    @property
    def message(self) -> dict[str, Any]:
        """The first choice's message as it stands."""
        return _message(self._choices[0]) if 0 in self._choices else {"role": "assistant"}

    @property
    def finish_reason(self) -> str | None:
        return self._choices[0]["finish_reason"] if 0 in self._choices else None

    def completion(self) -> dict[str, Any]:
        """Return the whole answer, in the shape of one that was not streamed."""
        choices = [
            {
                "index": index,
                "message": _message(choice),
                "logprobs": choice["logprobs"],
                "finish_reason": choice["finish_reason"] or "stop",
                **choice["more"],
            }
            for index, choice in sorted(self._choices.items())
        ]
        whole = {**self._head, "object": "chat.completion", "choices": choices}
        return whole if self.usage is None else {**whole, "usage": self.usage}

    def _add(self, said: dict[str, Any]) -> None:
        blank: dict[str, Any] = {"delta": {}, "logprobs": None, "finish_reason": None, "more": {}}
        choice = self._choices.setdefault(said["index"], blank)
        _merge(choice["delta"], said.get("delta") or {})
        if (logprobs := said.get("logprobs")) is not None:
            choice["logprobs"] = choice["logprobs"] or {}
            _merge(choice["logprobs"], logprobs)
        choice["finish_reason"] = said.get("finish_reason") or choice["finish_reason"]
        _note(choice["more"], said, _OF_CHOICE)


def _message(choice: dict[str, Any]) -> dict[str, Any]:
    said = {"role": "assistant", "content": None, "refusal": None, **choice["delta"]}
    if calls := said.get("tool_calls"):
        said["tool_calls"] = [
            {name: value for name, value in call.items() if name != "index"} for call in calls
        ]
        said["content"] = said["content"] or None
    return said


def _note(into: dict[str, Any], said: dict[str, Any], besides: frozenset[str]) -> None:
    """Note what is told whole each time; what says nothing takes nothing back."""
    for name, value in said.items():
        if name not in besides and (value not in (None, "", [], {}) or name not in into):
            into[name] = value


def _comes_in_pieces(name: str) -> bool:
    return name in _PIECES or name.startswith("reasoning")


def _merge(into: dict[str, Any], more: dict[str, Any]) -> None:
    """Add a delta: texts are appended, lists by the `index` of their items, else one by one."""
    for name, value in more.items():
        match into.get(name), value:
            case str() as had, str() if _comes_in_pieces(name):
                into[name] = had + value
            case str(), "":
                continue
            case dict() as had, dict():
                _merge(had, value)
            case list() as had, list():
                _merge_items(had, value)
            case None, list():
                into[name] = []
                _merge_items(into[name], value)
            case _, None:
                into.setdefault(name, None)
            case _:
                into[name] = value


def _merge_items(into: list[Any], more: list[Any]) -> None:
    for item in more:
        index = item.get("index") if isinstance(item, dict) else None
        there = next((one for one in into if index is not None and one.get("index") == index), None)
        if there is None:
            into.append(dict(item) if isinstance(item, dict) else item)
        else:
            _merge(there, item)
