"""Puts messages into the order that the strictest chat templates take, and leaves no word out.

Gemma's, Mistral's, Llama's and Qwen's templates refuse a second system message or one that does
not come first, an assistant that speaks before any user, and neighbours of one role.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from server.openai_protocol.messages import BETWEEN, answered_call, both, called, calls_in
from storage.model import PromptMessage, Role, text_of

GREETED = "You began this conversation by saying:\n"
_SPEAKERS = (Role.USER, Role.ASSISTANT)


def alternate(messages: Sequence[PromptMessage]) -> list[PromptMessage]:
    """Return messages as every template takes them; one that needs no change is the same object.

    One system message comes first, then user and assistant in turn, from a user on. Calls of tools
    stand with all that answers them and the assistant's words on it, or else are told as words.
    """
    systems = [one for one in messages if one.role is Role.SYSTEM]
    rest = [one for one in messages if one.role is not Role.SYSTEM]
    first = next((at for at, one in enumerate(rest) if one.role is Role.USER), len(rest))
    greetings = _worded(rest[:first])
    said = _joined([one for run in _turns(rest[first:]) for one in run])
    texts = [*(text_of(one.content) for one in systems)]
    texts += [GREETED + text_of(one.content) for one in greetings if text_of(one.content)]
    match systems:
        case [PromptMessage(content=str()) as only] if not greetings:
            return [only, *said]
        case _ if texts:
            return [PromptMessage(Role.SYSTEM, BETWEEN.join(texts)), *said]
        case _:
            return said


def as_words(messages: Sequence[PromptMessage]) -> list[PromptMessage]:
    """Return messages for a prompt of one text: calls and results as an assistant's words."""
    of_tools = (Role.ASSISTANT, Role.TOOL)
    runs = groupby(messages, key=lambda one: one.role in of_tools)
    return [one for is_theirs, run in runs for one in (_told(list(run)) if is_theirs else run)]


def _told(run: Sequence[PromptMessage]) -> Sequence[PromptMessage]:
    has_tools = any(one.role is Role.TOOL or _calls(one) for one in run)
    return _joined(_worded(run)) if has_tools else run


def _turns(rest: Sequence[PromptMessage]) -> list[list[PromptMessage]]:
    """Return a user's messages and what follows each, calls without their end told as words."""
    grouped = groupby(rest, key=lambda one: one.role is Role.USER)
    runs = [(is_user, list(group)) for is_user, group in grouped]
    return [
        run if is_user or _is_whole(run, is_open=at == len(runs)) else _worded(run)
        for at, (is_user, run) in enumerate(runs, 1)
    ]


def _is_whole(run: Sequence[PromptMessage], *, is_open: bool) -> bool:
    """Say whether each call of a run is answered at once, and the last word is an assistant's.

    In one that is open, the last of all, that word is still to come.
    """
    waiting: set[str] = set()
    for one in run:
        if one.role is Role.TOOL:
            answered = answered_call(one.content)
            if answered not in waiting:
                return False
            waiting.discard(answered)
        elif waiting:
            return False
        waiting |= {called(call) for call in _calls(one)}
    if waiting or not (is_open or run[-1].role is Role.ASSISTANT):
        return False
    spoken = [one for one in run if one.role is Role.ASSISTANT and not _calls(one)]
    return len(spoken) <= 1 or all(not _calls(one) for one in run if one.role is Role.ASSISTANT)


def _worded(run: Sequence[PromptMessage]) -> list[PromptMessage]:
    """Return a run without calls: what was called, and what came of it, as an assistant's words."""
    return [_as_words(one) for one in run if _words(one)]


def _as_words(one: PromptMessage) -> PromptMessage:
    plain = one.role is Role.ASSISTANT and not _calls(one)
    return one if plain else PromptMessage(Role.ASSISTANT, _words(one))


def _words(one: PromptMessage) -> str:
    said = text_of(one.content)
    if one.role is Role.TOOL:
        return f"[Result: {said}]"
    calls = [f"[Called {_function(call)}]" for call in _calls(one)]
    return BETWEEN.join([said, *calls] if said else calls)


def _function(call: Mapping[str, Any]) -> str:
    named = call.get("function") or call.get("custom") or {}
    given = named.get("arguments") or named.get("input") or ""
    return f"{named.get('name') or 'a tool'}({given})"


def _calls(one: PromptMessage) -> list[Mapping[str, Any]]:
    return calls_in(one.content) if one.role is Role.ASSISTANT else []


def _joined(messages: Sequence[PromptMessage]) -> list[PromptMessage]:
    """Join neighbours that speak as one; calls and what answers them stay apart."""
    joined: list[PromptMessage] = []
    for one in messages:
        before = joined[-1] if joined else None
        if (
            before is not None
            and before.role is one.role
            and one.role in _SPEAKERS
            and not _calls(before)
            and not _calls(one)
        ):
            joined[-1] = replace(before, content=both(before.content, one.content))
        else:
            joined.append(one)
    return joined
