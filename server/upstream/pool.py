"""Several upstreams as one, with failover: the first that serves a model and can is asked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from server.config.limits import ReplyLimits
from server.openai_protocol import codec
from server.templates import template
from server.tokens.models import model as known_model
from server.upstream.bodies import SingleUseBody, one, start_of
from server.upstream.count import TokenCounter
from server.upstream.echoed import tokens_of, with_texts
from server.upstream.health import Health, State
from server.upstream.model_info import Counter, ModelInfo, Named, counter_for, find, window_of
from server.upstream.model_list import GOOD_SECONDS, ModelList
from server.upstream.port import (
    Call,
    Finish,
    OpenAISpeaker,
    Piece,
    Prompt,
    PromptProgress,
    Reply,
    Upstream,
    UpstreamError,
    UpstreamFailedError,
    UpstreamOverflowError,
    UpstreamRateLimitedError,
    UpstreamRejectedError,
    UpstreamTimeoutError,
)
from server.upstream.retry import retry_after
from storage.model import PromptMessage

T = TypeVar("T")
#: every model
ALL = "*"
#: of a model that is taken because it is listed first
_LONGEST_NAME = 500
_REFUSAL_BYTES = ReplyLimits().refusal_bytes
_ELSEWHERE = (UpstreamFailedError, UpstreamTimeoutError, UpstreamRateLimitedError)


@dataclass(frozen=True, slots=True)
class PoolMember:
    """One upstream among several, and the models that it serves, as patterns (`gpt-*`)."""

    name: str
    #: writes the answers of conversations
    upstream: Upstream
    #: answers calls as they are
    speaker: OpenAISpeaker
    models: tuple[str, ...] = (ALL,)
    #: names of ours for models of its own
    aliases: Mapping[str, str] = field(default_factory=dict)
    #: patterns of models that take no messages, only text
    completions_only: tuple[str, ...] = ()
    #: names listed beside those that it lists itself
    model_list: tuple[str, ...] = ()
    #: what it calls the limit on an answer's tokens
    limit_name: str = "max_tokens"
    #: tokens of a window, and how tokens are counted, by patterns of its own names of models
    windows: Mapping[str, int] = field(default_factory=dict)
    tokenizers: Mapping[str, str] = field(default_factory=dict)
    #: whether it is sent what the strictest chat template takes
    strict: bool = True
    #: on this machine or beside it
    near: bool = False
    #: built in: it has the routes that completions, embeddings and moderations need, and no others
    local: bool = False
    #: it has the Responses API itself
    responses: bool = False
    #: so long its list of models is good, in seconds
    list_seconds: float = GOOD_SECONDS
    #: what else is to be said of how it does
    detail: Callable[[], Mapping[str, Any]] = dict

    def own_name(self, model: str) -> str | None:
        """Return what it calls a model; None for one that it does not serve."""
        if model in self.aliases:
            return self.aliases[model]
        return model if any(fnmatchcase(model, pattern) for pattern in self.models) else None

    def completes_only(self, model: str, own_name: str) -> bool:
        """Say whether it takes no messages for a model, only text."""
        names = (model, own_name)
        told = (fnmatchcase(one, pattern) for pattern in self.completions_only for one in names)
        return any(told) or not known_model(own_name).chat

    def named(self, own_name: str) -> Named:
        """Return what it is asked for under its own name of a model."""
        tokenizer = _matching(self.tokenizers, own_name)
        return Named(self.name, own_name, tokenizer, self.strict, self.local, self.near)

    def window(self, own_name: str) -> int | None:
        """Return the window that the settings give a model of its."""
        return _matching(self.windows, own_name)


class UpstreamPool:
    """An Upstream and a speaker of OpenAI's API, made of its members; their order is their rank.

    A request goes on to the next member that serves its model where one cannot be reached, answers
    with 429 or 5xx, or breaks before its first byte. A member that failed some times in a row is
    left alone for a while, unless there is no other. A call without a model (files, batches) goes
    to the one that serves all models, or else to the first, and nowhere else: such things live in
    one place. A name that a built-in one has is an upstream's where that names or lists it too, and
    the built-in one's otherwise, whatever patterns serve it. `now` is in seconds.
    """

    name = "upstreams"

    def __init__(
        self, members: Sequence[PoolMember], *, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._places = tuple(
            _Rank(
                m,
                Health(now),
                ModelList(m.speaker, now, m.list_seconds),
                TokenCounter(m.speaker, now),
            )
            for m in members
        )
        self._created = int(time.time())

    def serves(self, model: str) -> bool:
        """Say whether anybody serves a model."""
        return any(place.member.own_name(model) is not None for place in self._places)

    def completes_only(self, model: str) -> bool:
        """Say whether who is asked first takes no messages for a model, only text."""
        ranked = ((place.member, own) for place, own in self._ranked(model) if own is not None)
        try:
            member, own_name = next(ranked)
        except (StopIteration, UpstreamRejectedError):
            return not known_model(model).chat
        return member.completes_only(model, own_name)

    def first(self, model: str | None) -> PoolMember:
        """Return who is asked first. Raises UpstreamRejectedError where nobody serves the model."""
        return next(self._ranked(model))[0].member

    def has(self, name: str) -> bool:
        """Say whether there is an upstream of this name."""
        return any(place.member.name == name for place in self._places)

    def named(self, model: str) -> Named:
        """Return who is asked first for a model, and under which name; see Models."""
        try:
            place, own_name = next(self._ranked(model))
        except (StopIteration, UpstreamRejectedError):
            return Named("", model)
        return place.member.named(own_name or model)

    async def info(self, model: str) -> ModelInfo:
        """Return what is known of a model where it is asked; see Models."""
        named = self.named(model)
        place = self._place_of(named)
        if place is None:
            return ModelInfo(named)
        if place.member.local:
            return ModelInfo(named, told_window=known_model(named.model).window)
        # Who is known by name need not be waited for: OpenAI's list tells no windows.
        models = place.model_list.known if named.exact else await place.model_list.at_once()
        listed = find(models, named.model) or {}
        set_window = place.member.window(named.model)
        return ModelInfo(named, set_window, window_of(listed), counter_for(named, listed))

    async def count(self, info: ModelInfo, messages: Sequence[PromptMessage]) -> int | None:
        """Return the tokens of a prompt as its upstream counts them; see Models."""
        place = self._place_of(info.named)
        if place is None or info.counter is None:
            return None
        return await place.counter.count(info.counter, info.named.model, messages)

    async def first_listed(self, model: str) -> str | None:
        """Return what who is asked for a model has in its place, where it does not list it."""
        place = self._place_of(self.named(model))
        if place is None or place.member.local or place.member.limit_name != "max_tokens":
            return None  # OpenAI's own
        listed = (str(one["id"]) for one in await place.model_list.at_once())
        names = [name for name in listed if name.isprintable() and 0 < len(name) <= _LONGEST_NAME]
        return names[0] if names and model not in names else None

    def _place_of(self, named: Named) -> _Rank | None:
        return next((one for one in self._places if one.member.name == named.upstream), None)

    def state(self) -> tuple[State, ...]:
        """Return how every upstream has done."""
        return tuple(
            replace(place.health.state(place.member.name), detail=place.member.detail())
            for place in self._places
        )

    async def complete(self, prompt: Prompt) -> AsyncIterator[Piece]:
        """Yield an answer's pieces, then its Finish; see Upstream."""
        error: UpstreamError | None = None
        await self._learn_whose(prompt.model)
        for place, own_name in self._choice(prompt.model):
            begun = False
            place.health.tried()
            asked = place.telling(_asked(place.member, prompt, own_name))
            try:
                async with aclosing(place.member.upstream.complete(asked)) as pieces:  # type: ignore[type-var]
                    async for piece in pieces:
                        if not isinstance(piece, PromptProgress):
                            begun = begun or place.worked()
                        if isinstance(piece, Finish):
                            piece = replace(piece, by=place.member.named(asked.model))
                        yield piece
                return
            except _ELSEWHERE as failure:
                place.health.failed(getattr(failure, "retry_after", None))
                if begun:
                    raise
                error = failure
            except UpstreamRejectedError as refusal:
                place.worked()
                if isinstance(refusal, UpstreamOverflowError):
                    refusal.by = place.member.named(asked.model)
                raise
        raise error or UpstreamFailedError("there is no upstream")

    @asynccontextmanager
    async def call(self, call: Call) -> AsyncIterator[Reply]:
        """Send a call and yield the reply; see OpenAISpeaker."""
        await self._learn_whose(call.model)
        async with AsyncExitStack() as stack:
            yield await self._first_reply(call, stack)

    async def models(self) -> Sequence[Mapping[str, Any]]:
        """Return the models of all members, aliases included, each name once."""
        lists = await asyncio.gather(*(place.model_list.models() for place in self._places))
        found: dict[str, Mapping[str, Any]] = {}
        for place, listed in zip(self._places, lists, strict=True):
            member = place.member
            named = [name for name in member.models if not is_pattern(name)]
            own = [one for one in listed if member.own_name(str(one["id"])) is not None]
            added = ({"id": name} for name in (*member.aliases, *named, *member.model_list))
            for model in (*own, *added):
                given = {"created": self._created, "owned_by": member.name, **model}
                found.setdefault(str(model["id"]), {**given, "object": "model"})
        return list(found.values())

    async def close(self) -> None:
        """Close every member."""
        for place in self._places:
            await place.model_list.close()
            await place.member.upstream.close()
            await place.member.speaker.close()

    async def _first_reply(self, call: Call, stack: AsyncExitStack) -> Reply:
        """Return the reply of the first member that has a good one, or else the last bad one."""
        body = None if isinstance(call.body, bytes) else SingleUseBody(call.body)
        call = call if body is None else replace(call, body=body)
        refused: Reply | None = None
        error: UpstreamError | None = None
        for place, own_name in self._choice(call.model, call.upstream):
            if body is not None and body.begun:
                break  # it went past us and is gone
            place.health.tried()
            async with AsyncExitStack() as attempt:
                try:
                    asked = await place.echoing(_renamed(call, own_name))
                    reply = await attempt.enter_async_context(place.member.speaker.call(asked))
                except _ELSEWHERE as failure:
                    place.health.failed()
                    error = failure
                    continue
                if reply.status != 429 and reply.status < 500:
                    place.worked()
                    stack.push_async_exit(attempt.pop_all())
                    return replace(reply, upstream=place.member.name)
                place.health.failed(retry_after(reply.headers))
                refused = replace(reply, body=one(await start_of(reply.body, _REFUSAL_BYTES)))
        if refused is not None:
            return refused
        raise error or UpstreamFailedError("there is no upstream")

    def _choice(self, model: str | None, only: str | None = None) -> list[tuple[_Rank, str | None]]:
        """Return who is asked in turn, and under which name of the model."""
        ranked = list(self._ranked(model, only))
        if model is None:
            return ranked[:1]
        return [rank for rank in ranked if not rank[0].health.is_open] or ranked

    def _home(self) -> _Rank:
        everything = (place for place in self._places if ALL in place.member.models)
        not_ours = (place for place in self._places if not place.member.local)
        return next(everything, None) or next(not_ours, self._places[0])

    async def _learn_whose(self, model: str | None) -> None:
        """Have the lists of those upstreams that could have a built-in one's name for their own.

        Each is waited for once: one that hangs holds nobody up who asks the built-in one.
        """
        if model is not None and self._is_built_in(model):
            able = (place for place in self._places if place.member.own_name(model) is not None)
            lists = (place.model_list for place in able if not place.member.local)
            await asyncio.gather(*(one.models() for one in lists if not one.tried))

    def _is_built_in(self, model: str) -> bool:
        """Say whether a name is a built-in upstream's own, and no other's, as far as is known."""
        return any(
            model in place.member.models for place in self._places if place.member.local
        ) and not any(place.has(model) for place in self._places if not place.member.local)

    def _ranked(
        self, model: str | None, only: str | None = None
    ) -> Iterator[tuple[_Rank, str | None]]:
        found = False
        places = [place for place in self._places if only in (None, place.member.name)]
        if model is None:
            yield (places[0] if only is not None and places else self._home()), None
            return
        if self._is_built_in(model):
            places.sort(key=lambda place: not place.member.local)
        for place in places:
            if (own_name := place.member.own_name(model)) is not None:
                found = True
                yield place, own_name
        if not found:
            message = f"The model `{model}` does not exist or you do not have access to it."
            raise UpstreamRejectedError(message, 404, "model_not_found")


def _matching(by_pattern: Mapping[str, T], name: str) -> T | None:
    """Return what the first pattern that fits a name stands for."""
    found = (value for pattern, value in by_pattern.items() if fnmatchcase(name, pattern))
    return next(found, None)


def is_pattern(name: str) -> bool:
    """Say whether a name stands for many models."""
    return bool(set(name) & set("*?["))


@dataclass(frozen=True, slots=True)
class _Rank:
    member: PoolMember
    health: Health
    model_list: ModelList
    counter: TokenCounter

    def has(self, model: str) -> bool:
        """Say whether it is known to have a model by this very name."""
        own = (*self.member.models, *self.member.aliases, *self.member.model_list)
        return self.member.own_name(model) is not None and (
            model in own or self.model_list.has(model)
        )

    def telling(self, prompt: Prompt) -> Prompt:
        """Return a prompt that has llama.cpp tell how far it has read it: a sign of life."""
        if not self._is_llama_cpp(prompt.model):
            return prompt
        return replace(prompt, extra={**prompt.extra, "return_progress": True})

    async def echoing(self, call: Call) -> Call:
        """Return a call with what llama.cpp is to echo and does not."""
        prompts = tokens_of(call)
        if call.model is None or not prompts:
            return call
        await self.model_list.at_once()
        if not self._is_llama_cpp(call.model):
            return call
        return await with_texts(call, prompts, self.member.speaker)

    def _is_llama_cpp(self, model: str) -> bool:
        listed = find(self.model_list.known, model) or {}
        return counter_for(self.member.named(model), listed) is Counter.LLAMA_CPP

    def worked(self) -> bool:
        self.health.worked()
        return True


def _asked(member: PoolMember, prompt: Prompt, own_name: str | None) -> Prompt:
    """Return a prompt as a member is asked it: by its own name, and as text if it wants that."""
    own = own_name or prompt.model
    if prompt.text is None and member.completes_only(prompt.model, own):
        text, stop = template.render(prompt.messages), tuple(template.stops(prompt.stop))
        return replace(prompt, model=own, text=text, stop=stop)
    return replace(prompt, model=own)


def _renamed(call: Call, own_name: str | None) -> Call:
    """Return a call with the model's own name in the place of ours for it."""
    if own_name in (None, call.model) or not isinstance(call.body, bytes):
        return call
    body, _ = codec.parse(call.body)
    return replace(call, model=own_name, body=codec.encode({**body, "model": own_name}))
