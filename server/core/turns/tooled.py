"""Runs the tools that a model calls on our servers, and asks it again with what they say.

All of that is one answer of one turn: calls and results are parts of it, kept and told as it goes,
and what stops the turn stops the tool.
"""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
import structlog

from server.config.limits import ToolLimits
from server.core.prompt.learning import Learning
from server.core.turns.heal import Healing, Sending
from server.mcp.port import ServerTool, Toolbox, ToolError
from server.openai_protocol.messages import RUN_HERE, TO_APPROVE, calls_in, theirs
from server.upstream.port import Finish, Piece, Prompt, PromptProgress, Upstream
from storage.model import Content, PromptMessage, Role, Usage
from storage.parts import MARK, Kind, Mark, Part, content_of

log = structlog.get_logger("trialogue.turns")

_CUT = "\n[cut: the result was longer than there is room for]"


@dataclass(frozen=True, slots=True)
class Tools:
    """What a turn is offered, who runs it, how far, and what counts tokens for its model."""

    offered: Sequence[ServerTool]
    #: the ids of the calls of the answer before that were approved now
    approved: frozenset[str]
    box: Toolbox
    count: Callable[[Content], Awaitable[int]]
    limits: ToolLimits = field(default_factory=ToolLimits)


class Tooled(Healing):
    """One turn's answer, asked for until the model calls nothing more of ours; see Healing."""

    def __init__(
        self, upstream: Upstream, first: Sending, learning: Learning, tools: Tools
    ) -> None:
        super().__init__(upstream, first, learning)
        self._tools = tools
        self._finishes: list[Finish] = []
        #: what was approved, and ran before the model is asked
        self._approved: tuple[PromptMessage, ...] = ()
        #: when the time for tools is over
        self._until = 0.0
        #: tokens that calls and results have taken of the room that the first prompt left
        self._taken = 0

    @property
    def asked(self) -> Prompt:
        """What is sent first."""
        prompt = super().asked
        return replace(prompt, messages=(*prompt.messages, *self._approved))

    async def pieces(self) -> AsyncIterator[Piece]:
        """Yield the answer's pieces, those of each time that the model was asked and the results
        between, and one Finish with the usage of all.
        """
        for piece in await self._run_approved():
            yield piece
        again: Prompt | None = None
        for left in reversed(range(self._tools.limits.rounds + 1)):
            number = len(self._finishes)
            said = _Round(self._tools.offered, number, is_first=not (number or self._approved))
            answer = self._upstream.complete(again) if again else super().pieces()
            async with aclosing(self._round(said, answer)) as pieces:
                async for piece in pieces:
                    yield piece
            if len(self._finishes) == number:
                return  # it was cut off
            if not said.to_run() or self._finishes[-1].reason == "length":
                break
            results = await self._results(said, left)
            for piece in _told(results):
                yield piece
            if not left or len(results) < said.called:  # the others are somebody else's to answer
                break
            again = self._again(again or self.asked, _messages(said, results), left)
        yield self._total()

    async def _run_approved(self) -> list[Piece]:
        """Run what was approved; return how it is told, the calls once more and their results."""
        if not self._tools.approved:
            return []
        said = _Round([replace(tool, approve=False) for tool in self._tools.offered], 0)
        told: list[Piece] = []
        for call in _calls_of(self.sending.prompt.messages, self._tools.approved):
            part = Part(Kind.TOOL_CALL, theirs(call["id"]), call["function"]["name"])
            for piece in (part, str(call["function"].get("arguments") or "")):
                told += said.told(piece) if piece else ()
        results = await self._results(said, self._tools.limits.rounds)
        if results:
            self._approved = _messages(said, results)
        return [*told, *_told(results)]

    async def _round(
        self, said: _Round, answer: AsyncIterator[Piece]
    ) -> AsyncGenerator[Piece, None]:
        async with aclosing(answer) as pieces:  # type: ignore[type-var]
            async for piece in pieces:
                if isinstance(piece, Finish):
                    self._finishes.append(piece)
                elif not said.number or not isinstance(piece, PromptProgress):
                    for one in said.told(piece):
                        yield one

    def hear(self, finish: Finish) -> None:
        """Learn from the first prompt alone: only that was counted."""
        super().hear(self._finishes[0])

    def read(self, finish: Finish) -> Usage | None:
        """Return the usage of the first prompt."""
        return self._finishes[0].usage

    async def _results(self, said: _Round, left: int) -> list[tuple[_Call, str]]:
        """Run all the calls of a round that can be run at once; return what is told of each."""
        calls = said.to_run()
        if not left:
            too_many = "Error: this was not run, for too many calls were made already."
            return [(call, too_many) for call in calls]
        self._until = self._until or asyncio.get_running_loop().time() + self._tools.limits.seconds
        self._taken += await self._tools.count(said.content)
        most = self._tools.limits.calls
        told = await asyncio.gather(*map(self._result, calls[:most]))
        told += ["Error: this was not run, for too many were called at once."] * len(calls[most:])
        return [(call, await self._fitting(text)) for call, text in zip(calls, told, strict=True)]

    async def _result(self, call: _Call) -> str:
        began = asyncio.get_running_loop().time()
        result = "broke"
        try:
            if (seconds := self._until - began) <= 0:
                raise ToolError("this was not run, for the time for tools is over.")
            said = await self._tools.box.run(call.tool, _arguments(call), seconds)
            result = "ok"
        except ToolError as error:
            said, result = f"Error: {error}", "failed"
        finally:
            ms = round(1000 * (asyncio.get_running_loop().time() - began), 1)
            tool = call.tool
            log.info("tool called", server=tool.server, tool=tool.name, result=result, ms=ms)
        return said

    async def _fitting(self, text: str) -> str:
        """Return a result, or as much of it as the window has room for."""
        sent = self.sending.sent
        room = max(0, sent.budget - sent.prompt_tokens - self._taken)
        cut, tokens = text[: self._tools.limits.result_chars], 0
        while cut and (tokens := await self._tools.count(cut)) > room:
            cut = cut[: min(len(cut) - 1, int(len(cut) * room / tokens))]
        self._taken += tokens if cut else 0
        return cut if len(cut) == len(text) else cut + _CUT

    def _again(self, asked: Prompt, more: Sequence[PromptMessage], left: int) -> Prompt:
        """Return the prompt that tells results. Where no more may be called, nothing can be."""
        options = {name: value for name, value in asked.options.items() if name != "tool_choice"}
        if left == 1 or asyncio.get_running_loop().time() > self._until:
            options["tool_choice"] = "none"
        elif isinstance(choice := asked.options.get("tool_choice"), Mapping):
            options |= _as_you_like(choice)
        usage = self._finishes[-1].usage
        most = asked.max_tokens
        if most is not None and usage is not None:
            most = max(1, most - usage.completion_tokens)
        messages = (*asked.messages, *more)
        return replace(asked, messages=messages, options=options, max_tokens=most)

    def _total(self) -> Finish:
        """Return the end of the last round, with the usage of all where each tells it."""
        told = [one.usage for one in self._finishes if one.usage is not None]
        all_told = len(told) == len(self._finishes)
        return replace(self._finishes[-1], usage=_sum(told) if all_told else None)


@dataclass(frozen=True, slots=True)
class _Call:
    """A call of one of our tools; its id is the one that is told."""

    tool: ServerTool
    id: str
    arguments: list[str] = field(default_factory=list)


class _Round:
    """What a model says once it was asked; `number` rounds came before, and maybe other parts."""

    def __init__(
        self, offered: Sequence[ServerTool], number: int, *, is_first: bool = True
    ) -> None:
        self.number = number
        self._is_first = is_first
        #: how many calls there are, a caller's own tools too
        self.called = 0
        self._offered = {tool.called: tool for tool in offered}
        self._ours: list[_Call] = []
        self._open: _Call | None = None
        self._row: list[str] = []
        self._marks: list[Mark] = []
        self._length = 0

    @property
    def content(self) -> Content:
        """All of it, as a message has it."""
        return content_of("".join(self._row), self._marks)

    def to_run(self) -> list[_Call]:
        """Return the calls that nobody has to approve."""
        return [call for call in self._ours if not call.tool.approve]

    def told(self, piece: Piece) -> Iterator[Piece]:
        """Yield what followers are told of a piece: calls of our tools are known by their ids."""
        if isinstance(piece, Part):
            piece = self._begun(piece)
            self._marks.append(Mark(self._length, piece))
            self._add(MARK)
        elif isinstance(piece, str):
            if not (self._is_first or self._length):  # what stands before is the result of a tool
                yield Part(Kind.TEXT)
            if self._open is not None:
                self._open.arguments.append(piece)
            self._add(piece)
        yield piece

    def _begun(self, part: Part) -> Part:
        self._open = None
        if part.kind not in (Kind.TOOL_CALL, Kind.CUSTOM_TOOL_CALL):
            return part
        self.called += 1
        tool = self._offered.get(part.name or "")
        if tool is None or part.kind is not Kind.TOOL_CALL:
            return part
        begins = TO_APPROVE if tool.approve else RUN_HERE
        theirs = part.id or f"call_{self.number}_{self.called}"
        self._open = _Call(tool, begins + theirs)
        self._ours.append(self._open)
        return replace(part, id=self._open.id)

    def _add(self, text: str) -> None:
        self._row.append(text)
        self._length += len(text)


def _told(results: Sequence[tuple[_Call, str]]) -> Iterator[Piece]:
    for call, result in results:
        yield Part(Kind.TOOL_RESULT, call.id)
        if result:
            yield result


def _messages(said: _Round, results: Sequence[tuple[_Call, str]]) -> tuple[PromptMessage, ...]:
    """Return calls and results as messages of a prompt."""
    answers = (
        PromptMessage(Role.TOOL, [{"type": "text", "text": text, "tool_call_id": call.id}])
        for call, text in results
    )
    return PromptMessage(Role.ASSISTANT, said.content), *answers


def _calls_of(
    messages: Sequence[PromptMessage], approved: Collection[str]
) -> list[Mapping[str, Any]]:
    """Return the calls of the last answer that has some of these."""
    for message in reversed(messages):
        calls = calls_in(message.content) if message.role is Role.ASSISTANT else []
        whole = (call for call in calls if isinstance(call.get("function"), Mapping))
        if found := [call for call in whole if call.get("id") in approved]:
            return found
    return []


def _arguments(call: _Call) -> Mapping[str, Any]:
    """Return what a tool is called with. Raises ToolError."""
    try:
        given = orjson.loads("".join(call.arguments) or "{}")
    except orjson.JSONDecodeError:
        given = None
    if not isinstance(given, dict):
        raise ToolError("the arguments are no JSON object.")
    return given


def _as_you_like(choice: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what is left of a choice of tools once one was called: which of them may be."""
    if choice.get("type") != "allowed_tools":
        return {}
    return {"tool_choice": {**choice, "allowed_tools": {**choice["allowed_tools"], "mode": "auto"}}}


def _sum(told: Sequence[Usage]) -> Usage:
    def total(read: Callable[[Usage], int | None]) -> int | None:
        known = [value for value in map(read, told) if value is not None]
        return sum(known) if known else None

    return Usage(
        sum(one.prompt_tokens for one in told),
        sum(one.completion_tokens for one in told),
        total(lambda one: one.cached_tokens),
        total(lambda one: one.reasoning_tokens),
    )
