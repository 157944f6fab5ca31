"""See that each event of a completion's stream is one that OpenAI's clients can read."""

from __future__ import annotations

from typing import Any

from server.upstream.complaints import shaped
from server.upstream.cut import data_of, without_comments
from server.upstream.letters import Letters
from server.upstream.mend import TEXT, UNREADABLE, Head, encode, mend_choice, parse, set_default
from server.upstream.port import UpstreamFailedError
from server.upstream.scrub import Scrubber

DONE = b"data: [DONE]\n\n"
CHAT_CHUNK = "chat.completion.chunk"


class Chunks:
    """Judge the events of one stream: pass on those that are right as they came, mend the others.

    What clients trip over is taken out: comments, chunks without choices unless usage was asked
    for, null as a delta's content, half a letter, a missing name. An error inside the stream is its
    last event, cleaned of the upstream's key and address.
    """

    def __init__(self, model: str, scrub: Scrubber, *, chat: bool, usage: bool) -> None:
        self._head = Head(CHAT_CHUNK if chat else TEXT, model)
        self._scrub = scrub
        self._chat = chat
        self._usage = usage
        self._begun: set[int] = set()
        self._ended: set[int] = set()
        self._halves: dict[tuple[int, str], Letters] = {}
        #: nothing may follow
        self.over = False

    @property
    def whole(self) -> bool:
        """Whether every choice that began has ended."""
        return bool(self._ended) and self._ended >= self._begun

    def take(self, event: bytes) -> bytes:
        """Return what to pass on of a whole event; empty where it is nothing.

        Raises UpstreamFailedError for one that cannot be read.
        """
        data = data_of(event)
        if not data:
            return b""
        if data.startswith(b"[DONE]"):
            self.over = True
            return without_comments(event)
        chunk, good = parse(data)
        if chunk.get("error"):
            self.over = True
            return _event({"error": shaped(chunk["error"], self._scrub)})
        mended = self._head.mend(chunk)
        if not chunk.get("choices"):
            if not (self._usage and chunk.get("usage")):
                return b""
            mended |= set_default(chunk, "choices", [])
        mended |= self._mend_all(chunk["choices"], good=good)
        return _event(chunk) if mended or not good else without_comments(event)

    def close(self) -> bytes:
        """Return what the stream lacks at its end. Raises UpstreamFailedError for one cut off."""
        if self.over:
            return b""
        if not self.whole:
            raise UpstreamFailedError("the upstream's answer was cut off")
        self.over = True
        return DONE

    def _mend_all(self, choices: Any, *, good: bool) -> bool:
        if not isinstance(choices, list):
            raise UpstreamFailedError(UNREADABLE)
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
        if choice["finish_reason"] is not None:
            self._ended.add(index)
        if not self._chat:
            if not isinstance(choice.get("text"), str):
                raise UpstreamFailedError(UNREADABLE)
            return set_default(choice, "logprobs", None) or mended
        delta = choice.get("delta")
        if delta is None:
            delta = choice["delta"] = {}
            mended = True
        if not isinstance(delta, dict):
            raise UpstreamFailedError(UNREADABLE)
        if delta.get("content", "") is None:
            del delta["content"]
            mended = True
        return mended

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


def failure(message: str) -> bytes:
    """Return the event that ends a stream which broke."""
    error = {"message": message, "type": "server_error", "param": None, "code": None}
    return _event({"error": error})


def _event(payload: object) -> bytes:
    return b"data: %b\n\n" % encode(payload)
