"""Reads what a completion's stream adds, chunk by chunk, as the parts of one answer.

Parts stand one behind the other in an answer, while an upstream may write two calls in turns: the
pieces of the second wait until the first is over.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import orjson

from server.config.limits import ReplyLimits
from server.openai_protocol.surrogates import Letters, fit
from server.upstream.port import UpstreamFailedError
from storage.parts import Kind, Part

#: Parts of one answer, and characters of a call's id or name.
MOST_PARTS: Final = 10_000
LONGEST_NAME: Final = 512
#: The names under which upstreams tell what a model thinks.
REASONING: Final = ("reasoning_content", "reasoning")
#: How often a call is looked at whether it is over.
_LOOKS = 8
_CALLS = (Kind.TOOL_CALL, Kind.CUSTOM_TOOL_CALL)


class Deltas:
    """What one answer's choice says, in the order in which it is kept."""

    def __init__(self, most: int = ReplyLimits().answer_chars) -> None:
        """`most` characters may all parts have together."""
        self._left = most
        self._parts = MOST_PARTS
        self._open: _Channel | None = None
        self._waiting: dict[object, _Channel] = {}
        #: those of them that can be begun
        self._named: dict[object, _Channel] = {}
        #: calls that are over, with their ids
        self._over: dict[object, str | None] = {}
        #: who says a number again for another call means that from then on
        self._meant: dict[object, object] = {}
        #: a letter may be in two halves with another part between
        self._letters: dict[object, Letters] = {}
        self._begun = False
        #: text is written, and nothing waits
        self._in_text = False

    def take(self, choice: Mapping[str, Any]) -> list[str | Part]:
        """Return what a chunk's choice adds. Raises UpstreamFailedError for what cannot be read."""
        delta = choice.get("delta")
        if self._in_text and isinstance(delta, dict) and len(delta) == 1:
            # Nearly every chunk there is: it has the next piece of the text, and nothing else.
            piece = delta.get("content")
            if isinstance(piece, str):
                self._count(piece)
                return [said] if (said := self._letters[Kind.TEXT].push(piece)) else []
        for key, kind, call, piece in _said(choice):
            self._put(key, kind, call, piece)
        told = list(self._told(ended=False))
        self._in_text = bool(self._open and self._open.key is Kind.TEXT and not self._waiting)
        return told

    def close(self) -> list[str | Part]:
        """Return what the answer's end leaves."""
        return list(self._told(ended=True))

    def _put(self, number: object, kind: Kind, call: Mapping[str, Any], piece: str) -> None:
        key = self._meant.get(number, number)
        if call.get("name") and self._is_another(key, _word(call.get("id"))):
            key = self._meant[number] = number, call["id"]
        if key in self._over:
            if piece.strip():
                raise _unreadable()
            return
        self._count(piece)
        channel = self._channel(key)
        if channel is None:
            self._parts -= 1
            if self._parts < 0:
                raise UpstreamFailedError("The upstream's answer has too many parts.")
            letters = self._letters.setdefault(key, Letters())
            channel = self._waiting[key] = _Channel(key, kind, letters)
        channel.add(call, piece)
        if channel is not self._open and channel.is_named:
            self._named[key] = channel

    def _channel(self, key: object) -> _Channel | None:
        return self._open if self._open and self._open.key == key else self._waiting.get(key)

    def _is_another(self, key: object, id_: str | None) -> bool:
        """Say whether an id is of another call than one that is over.

        Some upstreams number every call alike; others give one call a new id with each piece.
        """
        if id_ is None:
            return False
        if (channel := self._channel(key)) is not None:
            return channel.id not in (None, id_) and channel.is_over()
        return self._over.get(key) not in (None, id_)

    def _count(self, piece: str) -> None:
        self._left -= len(piece)
        if self._left < 0:
            raise UpstreamFailedError("The upstream's answer is too long.")

    def _told(self, *, ended: bool) -> Iterator[str | Part]:
        while True:
            if (channel := self._open) is not None:
                if said := channel.said(ended=ended):
                    self._begun = True
                    yield said
                if not (ended or (self._next() and channel.is_over())):
                    return
                if channel.is_call:
                    self._over[channel.key] = channel.id
                self._open = None
            if (found := self._next(ended=ended)) is None:
                return
            self._open = self._waiting.pop(found.key)
            self._named.pop(found.key, None)
            if self._begun or found.kind is not Kind.TEXT:
                self._begun = True
                yield found.part()

    def _next(self, *, ended: bool = False) -> _Channel | None:
        """Return what is begun next of what waits; a call without a name waits for that."""
        return next(iter((self._waiting if ended else self._named).values()), None)


class _Channel:
    """One part while it is written: its pieces that were not told yet."""

    def __init__(self, key: object, kind: Kind, letters: Letters) -> None:
        self.key = key
        self.kind = kind
        self.id: str | None = None
        self._name: str | None = None
        self._letters = letters
        self._pieces: list[str] = []
        #: all of a call's arguments, to see whether they are over
        self._whole: list[str] = []
        self._last = ""
        self._looks = _LOOKS

    @property
    def is_call(self) -> bool:
        return self.kind in _CALLS

    @property
    def is_named(self) -> bool:
        return not self.is_call or bool(self._name)

    def add(self, call: Mapping[str, Any], piece: str) -> None:
        self.id = self.id or _word(call.get("id"))
        self._name = self._name or _word(call.get("name"))
        if text := self._letters.push(piece):
            self._pieces.append(text)
            if self.is_call:
                self._whole.append(text)
                self._last = text.rstrip()[-1:] or self._last

    def said(self, *, ended: bool) -> str:
        """Return what was said since the last time."""
        if ended and (lost := self._letters.close()):
            self._pieces.append(lost)
        said = "".join(self._pieces)
        self._pieces.clear()
        return said

    def is_over(self) -> bool:
        """Say whether another part may begin: behind a call, only once its arguments are whole."""
        if not self.is_call:
            return True
        if self.kind is Kind.CUSTOM_TOOL_CALL or self._last != "}" or not self._looks:
            return False
        self._looks -= 1
        try:
            orjson.loads("".join(self._whole))
        except orjson.JSONDecodeError:
            return False
        return True

    def part(self) -> Part:
        return Part(self.kind, self.id, (self._name or "") if self.is_call else None)


def _said(choice: Mapping[str, Any]) -> Iterator[tuple[object, Kind, Mapping[str, Any], str]]:
    """Yield what a choice adds: to which part, of what kind, what names it, which characters."""
    delta = choice.get("delta")
    if not isinstance(delta, dict):
        if text := _text(choice.get("text")):
            yield Kind.TEXT, Kind.TEXT, {}, text
        return
    thought = next((text for name in REASONING if (text := _text(delta.get(name)))), "")
    for kind, text in (
        (Kind.REASONING, thought),
        (Kind.TEXT, _text(delta.get("content"))),
        (Kind.REFUSAL, _text(delta.get("refusal"))),
    ):
        if text:
            yield kind, kind, {}, text
    for call in delta.get("tool_calls") or ():
        if (found := _called(call)) is not None:
            yield call.get("index", 0), *found
    if isinstance(called := delta.get("function_call"), dict):
        named = {"name": called.get("name")}
        yield "function_call", Kind.TOOL_CALL, named, _text(called.get("arguments"))


def _called(call: Mapping[str, Any]) -> tuple[Kind, Mapping[str, Any], str] | None:
    match call:
        case {"custom": dict(custom)}:
            named = {"id": call.get("id"), "name": custom.get("name")}
            return Kind.CUSTOM_TOOL_CALL, named, _text(custom.get("input"))
        case {"function": dict(function)}:
            named = {"id": call.get("id"), "name": function.get("name")}
            return Kind.TOOL_CALL, named, _text(function.get("arguments"))
    return None


def _text(told: object) -> str:
    return told if isinstance(told, str) else ""


def _word(told: object) -> str | None:
    """Return an id or a name, which every delta of its part repeats."""
    if not isinstance(told, str) or not (word := fit(told)):
        return None
    if len(word) > LONGEST_NAME:
        raise _unreadable()
    return word


def _unreadable() -> UpstreamFailedError:
    return UpstreamFailedError("The upstream's answer cannot be read.")
