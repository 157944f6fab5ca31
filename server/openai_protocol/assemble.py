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
    """Takes the events of a stream, each whole."""

    def __init__(self) -> None:
        self._head: dict[str, Any] = {}
        self._choices: dict[int, _Choice] = {}
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
        return self._choices[0].message if 0 in self._choices else {"role": "assistant"}

    @property
    def finish_reason(self) -> str | None:
        return self._choices[0].finish_reason if 0 in self._choices else None

    def completion(self) -> dict[str, Any]:
        """Return the whole answer, in the shape of one that was not streamed."""
        choices = [
            {
                "index": index,
                "message": choice.message,
                "logprobs": None if choice.logprobs is None else choice.logprobs.whole(),
                "finish_reason": choice.finish_reason or "stop",
                **choice.more,
            }
            for index, choice in sorted(self._choices.items())
        ]
        whole = {**self._head, "object": "chat.completion", "choices": choices}
        return whole if self.usage is None else {**whole, "usage": self.usage}

    def _add(self, said: dict[str, Any]) -> None:
        choice = self._choices.setdefault(said["index"], _Choice())
        choice.delta.add(said.get("delta") or {})
        if (logprobs := said.get("logprobs")) is not None:
            choice.logprobs = choice.logprobs or _Object()
            choice.logprobs.add(logprobs)
        choice.finish_reason = said.get("finish_reason") or choice.finish_reason
        _note(choice.more, said, _OF_CHOICE)


class _Choice:
    def __init__(self) -> None:
        self.delta = _Object()
        self.logprobs: _Object | None = None
        self.finish_reason: str | None = None
        self.more: dict[str, Any] = {}

    @property
    def message(self) -> dict[str, Any]:
        said = {"role": "assistant", "content": None, "refusal": None, **self.delta.whole()}
        if calls := said.get("tool_calls"):
            said["tool_calls"] = [
                {name: value for name, value in call.items() if name != "index"} for call in calls
            ]
            said["content"] = said["content"] or None
        return said


class _Object:
    """An object that grows delta by delta; adding one costs what it brings, no more."""

    def __init__(self) -> None:
        self._fields: dict[str, Any] = {}

    def add(self, more: dict[str, Any]) -> None:
        """Add a delta: texts are appended, lists by the `index` of their items, else one by one."""
        for name, value in more.items():
            match self._fields.get(name), value:
                case _Text() as had, str():
                    had.append(value)
                case None, str() if _comes_in_pieces(name):
                    self._fields[name] = _Text([value])
                case str(), "":
                    continue
                case (_Object() as had, dict()) | (_Items() as had, list()):
                    had.add(value)
                case _, dict():
                    self._fields[name] = _Object()
                    self._fields[name].add(value)
                case _, list():
                    self._fields[name] = _Items()
                    self._fields[name].add(value)
                case _, None:
                    self._fields.setdefault(name, None)
                case _:
                    self._fields[name] = value

    def whole(self) -> dict[str, Any]:
        return {name: _whole(value) for name, value in self._fields.items()}


class _Items:
    """A list that grows; an item with an `index` grows where it stands."""

    def __init__(self) -> None:
        self._items: list[Any] = []
        self._places: dict[int | str, _Object] = {}

    def add(self, more: list[Any]) -> None:
        for item in more:
            index = item.get("index") if isinstance(item, dict) else None
            if not isinstance(index, int | str):
                self._items.append(item)
                continue
            if index not in self._places:
                self._places[index] = _Object()
                self._items.append(self._places[index])
            self._places[index].add(item)

    def whole(self) -> list[Any]:
        return [_whole(item) for item in self._items]


class _Text(list[str]):
    """A text in its pieces."""


def _whole(value: Any) -> Any:
    match value:
        case _Text():
            return "".join(value)
        case _Object() | _Items():
            return value.whole()
        case _:
            return value


def _note(into: dict[str, Any], said: dict[str, Any], besides: frozenset[str]) -> None:
    """Note what is told whole each time; what says nothing takes nothing back."""
    for name, value in said.items():
        if name not in besides and (value not in (None, "", [], {}) or name not in into):
            into[name] = value


def _comes_in_pieces(name: str) -> bool:
    return name in _PIECES or name.startswith("reasoning")
