"""The events of a response, rebuilt from its turn: the same for whoever reads, with their numbers.

Nothing of them is kept: live, late and resumed readers, after a restart too, have them from the row
that the answer is, cut by `words`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

from server.live.turn import Delta, Ended, Started, TurnEvent
from server.openai_protocol.codec import encode
from server.transports.openai.responses.ids import is_own_result, part_id, served
from server.transports.openai.responses.items import (
    COMPLETED,
    IN_PROGRESS,
    answered,
    content_part,
    failed,
    spaces_in,
)
from server.transports.openai.responses.render import (
    answer_of_turn,
    last_status,
    response_of,
    status_of,
)
from server.transports.openai.responses.words import Words
from storage.model import Status, Turn
from storage.parts import Kind, Part

#: What the events of a part are called, and the field of the last that has all it said.
_NAMES: Final = {
    Kind.TEXT: ("output_text", "text"),
    Kind.REFUSAL: ("refusal", "refusal"),
    Kind.REASONING: ("reasoning_text", "text"),
    Kind.TOOL_CALL: ("function_call_arguments", "arguments"),
    Kind.CUSTOM_TOOL_CALL: ("custom_tool_call_input", "input"),
}
_IN_CONTENT: Final = (Kind.TEXT, Kind.REFUSAL, Kind.REASONING)
_TEXT: Final = Part(Kind.TEXT)
#: A replay is a burst: so many events, and others have their turn.
_AT_ONCE: Final = 256
_ENDS: Final = {"completed": "completed", "incomplete": "incomplete", "cancelled": "incomplete"}


@dataclass(frozen=True, slots=True)
class Told:
    """An event as it is told, JSON already."""

    kind: str
    data: bytes


@dataclass(slots=True)
class _Item:
    """An output item that is being told."""

    part: Part
    place_in_answer: int
    index: int
    id: str
    words: Words
    pieces: list[str]

    @property
    def runs(self) -> bool:
        """Whether it is a call of a tool that the server runs."""
        return served(self.part) == "mcp"

    @property
    def named(self) -> tuple[str, str] | None:
        """What its events are called; None where there are none."""
        if (prefix := served(self.part)) is None:
            return _NAMES.get(self.part.kind)
        return ("mcp_call_arguments", "arguments") if prefix == "mcp" else None

    @property
    def place(self) -> dict[str, Any]:
        within = {"content_index": 0} if self.part.kind in _IN_CONTENT else {}
        return {"item_id": self.id, "output_index": self.index, **within}


class AnswerEvents:
    """Makes the events of a response of those of its turn, from the beginning on.

    Those up to the number `after` are left out.
    """

    def __init__(self, of: Turn, after: int = -1) -> None:
        self._after = after
        self._number = 0
        self._answer_id = answer_of_turn(of)
        self._spaces = spaces_in(of)
        self._open: _Item | None = None
        #: calls of tools that the server runs, until their results were told, by their ids
        self._running: dict[str | None, _Item] = {}
        self._items = 0
        #: the turn, once its end was told
        self.ended: Turn | None = None

    async def each(self, events: AsyncIterator[TurnEvent]) -> AsyncGenerator[Told, None]:
        """Yield the events that those of the turn are."""
        numbers = count(1)
        async for event in events:
            for told in self._take(event):
                yield told
                if not next(numbers) % _AT_ONCE:
                    await asyncio.sleep(0)

    def _take(self, event: TurnEvent) -> Iterator[Told]:
        """Yield the events that one of the turn is."""
        if isinstance(event, Ended):
            self.ended = event.turn
        for told in self._told(event):
            number, self._number = self._number, self._number + 1
            if number > self._after:
                numbered = {"type": told["type"], "sequence_number": number, **told}
                yield Told(told["type"], encode(numbered))

    def _told(self, event: TurnEvent) -> Iterable[dict[str, Any]]:
        match event:
            case Started(turn=turn):
                begun = response_of(turn)
                yield {"type": "response.created", "response": begun}
                yield {"type": "response.in_progress", "response": begun}
            case Delta():
                yield from self._said(event)
            case Ended(turn=turn):
                last = last_status(turn)
                yield from self._close(last)
                for item in self._running.values():
                    yield self._over(item, last)
                self._make_good(turn)
                ending = _ENDS.get(status_of(turn), "failed")
                yield {"type": f"response.{ending}", "response": response_of(turn)}

    def _make_good(self, turn: Turn) -> None:
        """Let the end be heard by one who saw more than a crash has left of an answer."""
        if turn.status is Status.INTERRUPTED:
            self._number = max(self._number, self._after + 1)

    def _said(self, event: Delta) -> Iterable[dict[str, Any]]:
        part = event.part or _TEXT
        if self._open is None or self._open.place_in_answer != event.index:
            yield from self._close(COMPLETED)
            if part.kind is Kind.ERASED:
                return
            id_ = part_id(self._answer_id, part, event.index)
            self._open = _Item(part, event.index, self._items, id_, Words(), [])
            if not is_own_result(part):
                self._items += 1
                yield from self._begun(self._open)
        yield from self._pieces(self._open, self._open.words.push(event.text + event.delta))

    def _begun(self, item: _Item) -> Iterable[dict[str, Any]]:
        shown = answered(item.part, None, item.id, IN_PROGRESS, self._spaces)
        added = {"output_index": item.index, "item": shown}
        yield {"type": "response.output_item.added", **added}
        if item.part.kind in _IN_CONTENT:
            part = content_part(item.part.kind, "")
            yield {"type": "response.content_part.added", **item.place, "part": part}
        if item.runs:
            yield {"type": "response.mcp_call.in_progress", **item.place}

    def _pieces(self, item: _Item, pieces: list[str]) -> Iterable[dict[str, Any]]:
        item.pieces += pieces
        if (named := item.named) is None:
            return
        more = _beside(item.part)
        for piece in pieces:
            yield {"type": f"response.{named[0]}.delta", **item.place, "delta": piece, **more}

    def _close(self, status: str) -> Iterable[dict[str, Any]]:
        if (item := self._open) is None:
            return
        self._open = None
        yield from self._pieces(item, item.words.close())
        said = "".join(item.pieces)
        if is_own_result(item.part):
            yield from self._ran(item, said, status)
            return
        shown = answered(item.part, said, item.id, status, self._spaces)
        if (named := item.named) is not None:
            is_function = item.part.kind is Kind.TOOL_CALL and not item.runs
            named_too = {"name": shown["name"]} if is_function else {}
            whole = {named[1]: said, **named_too, **_beside(item.part)}
            yield {"type": f"response.{named[0]}.done", **item.place, **whole}
        if item.part.kind in _IN_CONTENT:
            part = content_part(item.part.kind, said)
            yield {"type": "response.content_part.done", **item.place, "part": part}
        if item.runs:
            self._running[item.part.id] = item
        else:
            yield _done(item, shown)

    def _ran(self, result: _Item, said: str, status: str) -> Iterable[dict[str, Any]]:
        """Yield the end of the call whose result was told."""
        if (item := self._running.pop(result.part.id, None)) is None:
            return
        ending = "failed" if failed(said) else "completed"
        yield {"type": f"response.mcp_call.{ending}", **item.place}
        yield self._over(item, status, said)

    def _over(self, item: _Item, status: str, result: str | None = None) -> dict[str, Any]:
        called = "".join(item.pieces)
        return _done(item, answered(item.part, called, item.id, status, result=result))


def _done(item: _Item, shown: dict[str, Any]) -> dict[str, Any]:
    return {"type": "response.output_item.done", "output_index": item.index, "item": shown}


def _beside(part: Part) -> dict[str, Any]:
    return {"logprobs": []} if part.kind is Kind.TEXT else {}
