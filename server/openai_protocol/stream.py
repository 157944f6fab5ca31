"""See that each event of a completion's stream is one that OpenAI's clients can read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from server.openai_protocol.codec import UNREADABLE, MalformedError, encode
from server.openai_protocol.echo import Echo
from server.openai_protocol.errors import Clean, shaped
from server.openai_protocol.expectations import Expectations
from server.openai_protocol.normalize import (
    TEXT,
    Head,
    mend_choice,
    mend_logprobs,
    mend_reason,
    mend_usage,
    set_default,
)
from server.openai_protocol.repeated import RepeatedChunk
from server.openai_protocol.response import ANY, Length, Most, text_of
from server.openai_protocol.sse import data_of, without_comments
from server.openai_protocol.surrogates import Letters
from server.openai_protocol.tool_calls import ToolCalls, mend_arguments, mend_content
from server.openai_protocol.usage import UsageCounter

DONE = b"data: [DONE]\n\n"
CHAT_CHUNK = "chat.completion.chunk"
_CUT_OFF = "the upstream's answer was cut off"


class StreamNormalizer:
    """Judge the events of one stream: pass on those that are right as they came, mend the others.

    What clients trip over is taken out: comments, chunks without choices unless usage was asked
    for, null as a delta's content, half a letter, a missing name. An error inside the stream is its
    last event, cleaned of the upstream's key and address. Usage that was asked for and not told is
    left to be counted.
    """

    def __init__(
        self,
        model: str,
        clean: Clean,
        *,
        chat: bool,
        expected: Expectations,
        most: Most = ANY,
        counted: bool = True,
    ) -> None:
        """`counted` says whether usage is to be counted that was asked for and is not told."""
        self._head = Head(CHAT_CHUNK if chat else TEXT, model)
        self._clean = clean
        self._chat = chat
        self._expected = expected
        self._most = most
        self._lengths: dict[int, Length] = {}
        self._begun: set[int] = set()
        self._ended: set[int] = set()
        self._calls: dict[int, ToolCalls] = {}
        self._halves: dict[tuple[int, str], Letters] = {}
        self._repeated = RepeatedChunk(chat=chat)
        self._echo = Echo(expected, most.chars)
        #: what was said, while its usage may have to be counted
        self._counter = UsageCounter() if expected.usage and counted else None
        #: the upstream told how far it has read the prompt, and nothing else yet
        self.reading = False
        #: nothing may follow
        self.over = False
        #: what the upstream said was wrong, where that was its last event
        self.error: object = None

    @property
    def whole(self) -> bool:
        """Whether every choice has ended: those that were asked for, and those that began."""
        return len(self._ended) >= self._expected.choices and self._ended >= self._begun

    @property
    def begun(self) -> bool:
        """Whether anything was said."""
        return bool(self._begun)

    @property
    def _spoke(self) -> bool:
        return any(length.found for length in self._lengths.values())

    @property
    def settled(self) -> bool:
        """Whether nothing is to come but the stream's end."""
        return self.whole and self._counter is None

    @property
    def uncounted(self) -> UsageCounter | None:
        """What was said, where it is over and its usage was asked for but not told."""
        return self._counter if self._begun and self.error is None else None

    def take(self, event: bytes) -> bytes:
        """Return what to pass on of a whole event; empty where it is nothing.

        Raises MalformedError for one that cannot be read.
        """
        if not (self._halves or self._echo) and (text := self._repeated.text_of(event)) is not None:
            self.reading = False
            self._add(self._repeated.index, {self._repeated.name: text}, text)
            return event
        return self._read(event)

    def _read(self, event: bytes) -> bytes:
        data = data_of(event)
        if data in (b"", b"null"):  # llama.cpp says null between the answers to two prompts
            return b""
        if data.startswith(b"[DONE]"):
            if self._ended and not self._ended >= self._begun:
                raise MalformedError(_CUT_OFF)
            self.over = True
            return self._left() + without_comments(event)
        chunk, good = self._most.parse(data)
        if chunk.get("error"):
            self.over = True
            self.error = chunk["error"]
            return _event({"error": shaped(self.error, self._clean)})
        self.reading = "prompt_progress" in chunk and not self._spoke
        mended = self._mended(chunk, good=good)
        if mended is None:
            return b""
        if mended:
            return _event(chunk)
        if not self.reading:
            self._repeated.learn(event, chunk)
        return without_comments(event)

    def _mended(self, chunk: dict[str, Any], *, good: bool) -> bool | None:
        """Mend a chunk, and say whether its bytes are others now; None where it is nothing."""
        mended = mend_usage(chunk) or not good
        told = chunk.get("usage") is not None
        if not chunk.get("choices"):
            if not (self._expected.usage and told):
                return None
            if chunk.get("choices") != []:  # none at all, or null
                chunk["choices"] = []
                mended = True
        if told:
            self._counter = None
        mended |= self._head.mend(chunk)
        return mended | self._mend_all(chunk["choices"], good=good)

    def usage(self, usage: dict[str, int]) -> bytes:
        """Return the event that tells a usage."""
        chunk: dict[str, Any] = {}
        self._head.mend(chunk)
        return _event({**chunk, "choices": [], "usage": usage})

    def close(self) -> bytes:
        """Return what the stream lacks at its end. Raises MalformedError for one cut off."""
        if self.over:
            return b""
        if not self.whole:
            raise MalformedError(_CUT_OFF)
        self.over = True
        return DONE

    def _left(self) -> bytes:
        """Return the event of what was held back of texts that ended without a word for it."""
        choices = self._echo.close()
        if not choices:
            return b""
        chunk: dict[str, Any] = {"choices": choices}
        self._head.mend(chunk)
        return _event(chunk)

    def _mend_all(self, choices: Any, *, good: bool) -> bool:
        if not isinstance(choices, list):
            raise MalformedError(UNREADABLE)
        self._most.check_choices(len(choices))
        mended = False
        for index, choice in enumerate(choices):
            mended |= self._mend(choice, index)
            if not good or self._halves:
                mended |= self._rejoin(choice)
        return mended

    def _mend(self, choice: Any, index: int) -> bool:
        mended = mend_choice(choice, index)
        index = choice["index"]
        self._begun.add(index)
        self._most.check_choices(len(self._begun))
        mended |= self._mend_delta(choice, index) if self._chat else self._mend_text(choice, index)
        mended |= mend_reason(choice, "tool_calls" if index in self._calls else "stop")
        if choice["finish_reason"] is not None:
            self._ended.add(index)
        self._add(index, choice["delta"] if self._chat else choice, text_of(choice))
        return self._echo.mend(choice) | mended if self._echo else mended

    def _add(self, index: int, said: Mapping[str, Any], text: str) -> None:
        self._length(index).add(text)
        if self._counter is not None:
            self._counter.add(index, said)

    def _mend_delta(self, choice: dict[str, Any], index: int) -> bool:
        mended = False
        delta = choice.get("delta")
        if delta is None:
            text = choice.pop("text", None)
            delta = choice["delta"] = {"content": text} if isinstance(text, str) else {}
            mended = True
        if not isinstance(delta, dict):
            raise MalformedError(UNREADABLE)
        content = delta.get("content", "")
        if content is None:
            del delta["content"]
            mended = True
        elif type(content) is not str:
            mended |= mend_content(delta)
        if calls := delta.get("tool_calls"):
            mended |= self._calls.setdefault(index, ToolCalls()).mend(calls)
        if delta.get("function_call"):
            mended |= mend_arguments(delta)
        return mended

    def _mend_text(self, choice: dict[str, Any], index: int) -> bool:
        if not isinstance(choice.get("text"), str):
            raise MalformedError(UNREADABLE)
        return set_default(choice, "logprobs", None) | mend_logprobs(
            choice, self._length(index).found
        )

    def _length(self, index: int) -> Length:
        return self._lengths.setdefault(index, Length(self._most.chars))

    def _rejoin(self, choice: dict[str, Any]) -> bool:
        """Put a letter that was split over two chunks into the second of them, whole."""
        said = choice["delta"] if self._chat else choice
        mended = False
        for name, value in list(said.items()):
            if name != "finish_reason" and isinstance(value, str):
                letters = self._halves.setdefault((choice["index"], name), Letters())
                said[name] = letters.push(value)
                mended |= said[name] != value
        if choice["finish_reason"] is not None:
            for (index, name), letters in self._halves.items():
                if index == choice["index"] and (lost := letters.close()):
                    said[name] = said.get(name, "") + lost
                    mended = True
        return mended


def chunks_of(answer: Mapping[str, Any], expected: Expectations) -> Iterator[bytes]:
    """Yield the events of a stream for an answer that came in one piece, and is fit."""
    chat = answer["object"] != TEXT
    kept = {name: answer[name] for name in answer if name not in ("choices", "usage", "object")}
    head = {**kept, "object": CHAT_CHUNK if chat else TEXT}
    for choice in answer["choices"]:
        yield _event({**head, "choices": [_delta(choice) if chat else choice]})
    if expected.usage and answer.get("usage") is not None:
        yield _event({**head, "choices": [], "usage": answer["usage"]})
    yield DONE


def _delta(choice: Mapping[str, Any]) -> dict[str, Any]:
    """Return a whole choice as the one delta that it would have been."""
    delta = {name: value for name, value in choice["message"].items() if value is not None}
    if calls := delta.get("tool_calls"):
        delta["tool_calls"] = [{"index": number, **call} for number, call in enumerate(calls)]
    return {name: value for name, value in choice.items() if name != "message"} | {"delta": delta}


def failure(message: str) -> bytes:
    """Return the event that ends a stream which broke."""
    error = {"message": message, "type": "server_error", "param": None, "code": None}
    return _event({"error": error})


def _event(payload: object) -> bytes:
    return b"data: %b\n\n" % encode(payload)
