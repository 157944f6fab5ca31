"""Tell text completions of a prompt as the answers of a chat."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from server.openai_protocol.codec import encode, parse
from server.openai_protocol.sse import data_of, one_by_one
from server.openai_protocol.stream import DONE

_SAME = ("created", "model", "usage", "system_fingerprint")


def whole(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return a completion as a chat completion."""
    choices = [
        {
            "index": said["index"],
            "message": {
                "role": "assistant",
                "content": str(said["text"]).lstrip(" "),
                "refusal": None,
            },
            "logprobs": _logprobs(said.get("logprobs")),
            "finish_reason": said["finish_reason"] or "stop",
        }
        for said in answer["choices"]
    ]
    same = {name: answer[name] for name in _SAME if answer.get(name) is not None}
    return {"id": _new_id(), "object": "chat.completion", **same, "choices": choices}


@dataclass(slots=True)
class Retold:
    """One stream of a completion that is told as one of a chat."""

    id: str = field(default_factory=lambda: _new_id())
    created: int = field(default_factory=lambda: int(time.time()))
    #: choices that have said something
    _begun: set[int] = field(default_factory=set)

    async def events(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yield a chat's events; an error inside the stream is the last."""
        async for event in one_by_one(body):
            data = data_of(event)
            if data.startswith(b"[DONE]"):
                break
            chunk, _ = parse(data)
            if "error" in chunk:
                yield event
                return
            if (told := self._chunk(chunk)) is not None:
                yield b"data: %b\n\n" % encode(told)
        yield DONE

    def _chunk(self, chunk: dict[str, Any]) -> dict[str, Any] | None:
        choices = [told for said in chunk["choices"] if (told := self._choice(said)) is not None]
        if chunk["choices"] and not choices:
            return None
        head = {"id": self.id, "object": "chat.completion.chunk", "created": self.created}
        rest = {"model": chunk["model"], "choices": choices}
        return head | rest | ({"usage": chunk["usage"]} if "usage" in chunk else {})

    def _choice(self, said: Mapping[str, Any]) -> dict[str, Any] | None:
        index, text, reason = said["index"], str(said["text"]), said.get("finish_reason")
        begins = index not in self._begun
        if begins:
            text = text.lstrip(" ")  # what stands behind the last mark of a template
        if not text and not reason:
            return None
        delta = {"role": "assistant"} if begins else {}
        self._begun.add(index)
        return {
            "index": index,
            "delta": delta | ({"content": text} if text or begins else {}),
            "logprobs": _logprobs(said.get("logprobs")),
            "finish_reason": reason,
        }


def _new_id() -> str:
    return f"chatcmpl-{secrets.token_hex(12)}"


def _logprobs(given: Any) -> dict[str, Any] | None:
    """Return a completion's log probabilities in the shape of a chat's."""
    if not isinstance(given, dict) or not given.get("tokens"):
        return None
    tokens: Sequence[str] = given["tokens"]
    own: Sequence[float | None] = given.get("token_logprobs") or []
    others: Sequence[Mapping[str, float] | None] = given.get("top_logprobs") or []
    content = []
    for place, token in enumerate(tokens):
        top = others[place] if place < len(others) else None
        content.append(
            {
                **_token(token, own[place] if place < len(own) else None),
                "top_logprobs": [_token(*one) for one in (top or {}).items()],
            }
        )
    return {"content": content, "refusal": None}


def _token(token: str, logprob: float | None) -> dict[str, Any]:
    sound = token.encode("utf-8", "replace")
    return {"token": token, "logprob": 0.0 if logprob is None else logprob, "bytes": list(sound)}
