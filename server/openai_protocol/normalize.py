"""Normalize answers, and pieces of them: what OpenAI's types require is there and of its type."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from server.openai_protocol.codec import UNREADABLE, MalformedError
from server.openai_protocol.finish_reason import ending
from server.openai_protocol.surrogates import fit

TEXT = "text_completion"
#: what an answer says of how it was served; OpenAI's types know no other word
_TIERS = ("auto", "default", "flex", "scale", "priority", "fast")
_HEAD = ("object", "created", "id", "model")
_USAGE = ("prompt_tokens", "completion_tokens", "total_tokens")


@dataclass(slots=True)
class Head:
    """What stands at the head of every object of one answer, and is the same in all of them."""

    object: str
    model: str
    id: str = ""
    created: int = field(default_factory=lambda: int(time.time()))
    begun: bool = False

    def mend(self, answer: dict[str, Any]) -> bool:
        """Put this head on an object; the first one's own words count, and stay.

        Say whether anything was changed.
        """
        mended = _without_odd_tier(answer)
        if not self.begun:
            self._begin(answer)
        for name in _HEAD:
            value = getattr(self, name)
            if answer.get(name) != value:
                answer[name] = value
                mended = True
        return mended

    def _begin(self, answer: dict[str, Any]) -> None:
        self.begun = True
        if type(answer.get("created")) is int:
            self.created = answer["created"]
        for name in ("id", "model"):
            value = answer.get(name)
            if type(value) is str and (said := fit(value)):
                setattr(self, name, said)
        self.id = self.id or self._new_id()

    def _new_id(self) -> str:
        return f"{'cmpl' if self.object == TEXT else 'chatcmpl'}-{secrets.token_hex(12)}"


def mend_choice(choice: Any, index: int) -> bool:
    """Fill in a choice's index; log probabilities that are none are null."""
    if not isinstance(choice, dict):
        raise MalformedError(UNREADABLE)
    mended = False
    if type(choice.get("index")) is not int:
        choice["index"] = index
        mended = True
    logprobs = choice.get("logprobs")
    if logprobs is not None and type(logprobs) is not dict:
        choice["logprobs"] = None
        mended = True
    return mended


def mend_logprobs(choice: dict[str, Any], offset: int = 0) -> bool:
    """Tell a text's log probabilities in the shape of completions; llama.cpp has chat's for both.

    `offset` is where the choice's text begins in the whole answer, in characters.
    """
    logprobs = choice.get("logprobs")
    if not isinstance(logprobs, dict) or not isinstance(logprobs.get("content"), list):
        return False
    told = [one for one in logprobs["content"] if isinstance(one, dict)]
    tokens = [str(one.get("token") or "") for one in told]
    starts = accumulate((len(token) for token in tokens), initial=offset)
    choice["logprobs"] = {
        "tokens": tokens,
        "token_logprobs": [one.get("logprob") for one in told],
        "top_logprobs": [_by_token(one.get("top_logprobs")) for one in told],
        "text_offset": list(starts)[: len(tokens)],
    }
    return True


def _by_token(top: Any) -> dict[str, Any]:
    listed = [one for one in top if isinstance(one, dict)] if isinstance(top, list) else []
    by_token: dict[str, Any] = {}
    for one in listed:  # pieces of letters may look alike: the likeliest counts
        by_token.setdefault(str(one.get("token")), one.get("logprob"))
    return by_token


def mend_reason(choice: dict[str, Any], otherwise: str = "stop") -> bool:
    """Put a choice's ending in OpenAI's words; see `ending`."""
    said = choice.get("finish_reason", "")
    told = choice["finish_reason"] = ending(said, otherwise)
    return bool(told != said)


def mend_usage(answer: dict[str, Any]) -> bool:
    """Give a usage all its counts, as far as one follows from another; one of none is null."""
    usage = answer.get("usage")
    if usage is None:
        return False
    if not isinstance(usage, dict) or not usage:
        answer["usage"] = None
        return True
    told = [usage.get(name) for name in _USAGE]
    if all(type(count) is int for count in told):
        return False
    prompt, completion, total = (_whole(count) for count in told)
    if prompt is None:
        prompt = max((total or 0) - (completion or 0), 0)
    if completion is None:
        completion = max((total or 0) - prompt, 0)
    counts = (prompt, completion, prompt + completion if total is None else total)
    usage.update(zip(_USAGE, counts, strict=True))
    return True


def set_default(there: dict[str, Any], name: str, value: Any) -> bool:
    """Put a value where there is none, and say whether there was none."""
    if name in there:
        return False
    there[name] = value
    return True


def _whole(count: Any) -> int | None:
    """Return a count that is a whole number, however it was written."""
    if type(count) is float:
        return int(count) if count.is_integer() else None
    return count if type(count) is int else None


def _without_odd_tier(answer: dict[str, Any]) -> bool:
    tier = answer.get("service_tier")
    if tier is None or tier in _TIERS:
        return False
    del answer["service_tier"]
    return True
