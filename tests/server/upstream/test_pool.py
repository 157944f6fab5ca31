"""Several upstreams as one: who is asked, who is asked next, who is left alone."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from server.upstream.health import FIRST_REST, PATIENCE
from server.upstream.pool import PoolMember, UpstreamPool
from server.upstream.port import (
    Call,
    Finish,
    Prompt,
    Reply,
    UpstreamError,
    UpstreamFailedError,
    UpstreamQuotaError,
    UpstreamRateLimitedError,
    UpstreamRejectedError,
    UpstreamTimeoutError,
)
from storage.model import PromptMessage, Role
from tests.support.fakes import Clock, Puppet


class Speaker:
    """Answers calls with what it was told to, the last thing for ever."""

    name = "speaker"

    def __init__(self, *answers: int | UpstreamError, models: Sequence[str] = ()) -> None:
        self.answers = list(answers) or [200]
        self.calls: list[Call] = []
        self.left = 0
        self.closed = False
        self.listed: Sequence[str] | UpstreamError = models
        self.lists = 0

    @asynccontextmanager
    async def call(self, call: Call) -> AsyncIterator[Reply]:
        self.calls.append(call)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, UpstreamError):
            raise answer
        try:
            yield Reply(answer, {"retry-after": "60"} if answer == 429 else {}, self._body(answer))
        finally:
            self.left += 1

    async def models(self) -> Sequence[Mapping[str, Any]]:
        self.lists += 1
        if isinstance(self.listed, UpstreamError):
            raise self.listed
        return [
            {"id": name, "object": "model", "created": 7, "owned_by": "x"} for name in self.listed
        ]

    async def close(self) -> None:
        self.closed = True

    async def _body(self, status: int) -> AsyncIterator[bytes]:
        yield f"{status} from {len(self.calls)}".encode()


def member(name: str, speaker: Speaker | None = None, **given: Any) -> PoolMember:
    return PoolMember(name, given.pop("upstream", Puppet()), speaker or Speaker(), **given)


async def answer(upstreams: UpstreamPool, model: str | None = "m", **given: Any) -> tuple[int, str]:
    call = Call("POST", "/chat/completions", model=model, **given)
    async with upstreams.call(call) as reply:
        return reply.status, b"".join([piece async for piece in reply.body]).decode()


async def told(upstreams: UpstreamPool, model: str = "m") -> str:
    prompt = Prompt(model, (PromptMessage(Role.USER, "hi"),))
    async with aclosing(upstreams.complete(prompt)) as items:  # type: ignore[type-var]
        pieces = [item async for item in items]
    return "".join(f"<{one.reason}>" if isinstance(one, Finish) else str(one) for one in pieces)


BROKEN = UpstreamFailedError("no connection")


class TestWhoIsAsked:
    async def test_the_first_that_serves_the_model(self) -> None:
        speakers = [Speaker(), Speaker(), Speaker()]
        patterns = [("gpt-*",), ("llama-?b", "exact"), ("*",)]
        upstreams = UpstreamPool(
            [
                member(str(i), s, models=p)
                for i, (s, p) in enumerate(zip(speakers, patterns, strict=True))
            ]
        )
        for model in ("gpt-4o", "llama-7b", "exact", "exactly", "gpt"):
            await answer(upstreams, model)
        assert [len(speaker.calls) for speaker in speakers] == [1, 2, 2]

    async def test_nobody_serves_it(self) -> None:
        upstreams = UpstreamPool([member("a", models=("gpt-*",))])
        with pytest.raises(UpstreamRejectedError) as refused:
            await answer(upstreams, "llama")
        assert (refused.value.status, refused.value.code) == (404, "model_not_found")
        with pytest.raises(UpstreamRejectedError):
            await told(upstreams, "llama")
        assert not upstreams.serves("llama")

    async def test_an_alias_is_the_models_own_name_upstream(self) -> None:
        speaker, puppet = Speaker(), Puppet().answer("hi")
        upstreams = UpstreamPool(
            [member("a", speaker, upstream=puppet, models=(), aliases={"fast": "gpt-5-mini"})]
        )
        await answer(upstreams, "fast", body=b'{"model": "fast", "x": [1]}')
        (call,) = speaker.calls
        assert call.model == "gpt-5-mini"
        assert isinstance(call.body, bytes)
        assert json.loads(call.body) == {"model": "gpt-5-mini", "x": [1]}
        assert await told(upstreams, "fast") == "hi<stop>"
        assert puppet.prompts[0].model == "gpt-5-mini"

    async def test_another_body_is_not_touched(self) -> None:
        speaker = Speaker()
        body = b'{ "model" :  "m" }'
        await answer(UpstreamPool([member("a", speaker)]), body=body)
        assert speaker.calls[0].body is body

    async def test_what_names_no_model_has_one_place(self) -> None:
        limited, home = Speaker(), Speaker(500)
        upstreams = UpstreamPool(
            [member("a", limited, models=("gpt-*",)), member("b", home), member("c", Speaker())]
        )
        assert await answer(upstreams, None) == (500, "500 from 1")
        assert limited.calls == []
        assert upstreams.first(None).name == "b"
        assert UpstreamPool([member("a", models=("x",))]).first(None).name == "a"


class TestTheBuiltIn:
    """The last of several, which has one name of its own, beside one that serves every name."""

    def pool(self, remote: Speaker, own: Speaker, **given: Any) -> UpstreamPool:
        built_in = member("eliza", own, models=("eliza",), local=True)
        return UpstreamPool([member("a", remote, **given), built_in])

    async def test_has_its_name_beside_one_that_serves_all(self) -> None:
        remote, own = Speaker(models=["m"]), Speaker()
        upstreams = self.pool(remote, own)
        for _ in range(2):
            assert await answer(upstreams, "eliza") == (200, f"200 from {len(own.calls)}")
        assert await answer(upstreams, "m") == (200, "200 from 1")
        assert (len(remote.calls), len(own.calls)) == (1, 2)
        assert remote.lists == 1
        assert upstreams.first("eliza").local

    async def test_gives_way_to_an_upstreams_own_model_of_its_name(self) -> None:
        ways: list[tuple[Sequence[str], dict[str, Any]]] = [
            (["m", "eliza"], {}),
            ([], {"models": ("eliza",)}),
            ([], {"aliases": {"eliza": "m"}}),
            ([], {"model_list": ("eliza",)}),
        ]
        for listed, given in ways:
            remote, own = Speaker(models=listed), Speaker()
            puppet = Puppet().answer("theirs")
            upstreams = self.pool(remote, own, upstream=puppet, **given)
            assert await told(upstreams, "eliza") == "theirs<stop>"
            await answer(upstreams, "eliza", body=b'{"model": "eliza"}')
            assert (len(remote.calls), len(own.calls)) == (1, 0), given
            (shown,) = [one for one in await upstreams.models() if one["id"] == "eliza"]
            assert shown["owned_by"] != "eliza"

    async def test_answers_where_the_others_cannot_list(self) -> None:
        remote, own = Speaker(), Speaker()
        remote.listed = BROKEN
        upstreams = self.pool(remote, own)
        assert await answer(upstreams, "eliza") == (200, "200 from 1")
        assert await answer(upstreams, "eliza") == (200, "200 from 2")
        assert remote.lists == 1

    async def test_is_listed_last(self) -> None:
        own = Speaker(models=["eliza", "gpt-4o"])
        names = [one["id"] for one in await self.pool(Speaker(models=["m"]), own).models()]
        assert names == ["m", "eliza"]


class TestTheNext:
    @pytest.mark.parametrize("bad", [429, 500, 503, BROKEN, UpstreamTimeoutError("late")], ids=str)
    async def test_one_that_cannot_answer_is_passed_over(self, bad: int | UpstreamError) -> None:
        first, second = Speaker(bad), Speaker()
        upstreams = UpstreamPool([member("a", first), member("b", second)])
        assert await answer(upstreams) == (200, "200 from 1")
        assert len(first.calls) == 1
        assert second.left == 1

    @pytest.mark.parametrize("status", [200, 400, 401, 404, 422])
    async def test_an_answer_is_an_answer(self, status: int) -> None:
        second = Speaker()
        upstreams = UpstreamPool([member("a", Speaker(status)), member("b", second)])
        assert (await answer(upstreams))[0] == status
        assert second.calls == []

    async def test_where_all_refuse_the_last_refusal_is_told(self) -> None:
        upstreams = UpstreamPool([member("a", Speaker(429)), member("b", Speaker(503))])
        assert await answer(upstreams) == (503, "503 from 1")

    async def test_a_refusal_says_more_than_a_broken_connection(self) -> None:
        upstreams = UpstreamPool([member("a", Speaker(429)), member("b", Speaker(BROKEN))])
        assert await answer(upstreams) == (429, "429 from 1")

    async def test_where_none_can_be_reached_that_is_told(self) -> None:
        upstreams = UpstreamPool([member("a", Speaker(BROKEN))])
        with pytest.raises(UpstreamFailedError):
            await answer(upstreams)

    async def test_a_body_that_is_gone_is_sent_to_nobody_else(self) -> None:
        class Reader(Speaker):
            @asynccontextmanager
            async def call(self, call: Call) -> AsyncIterator[Reply]:
                assert not isinstance(call.body, bytes)
                await anext(aiter(call.body))
                raise BROKEN
                yield Reply(200, {}, self._body(200))

        async def body() -> AsyncIterator[bytes]:
            yield b"x"

        second = Speaker()
        upstreams = UpstreamPool([member("a", Reader()), member("b", second)])
        with pytest.raises(UpstreamFailedError):
            await answer(upstreams, body=body())
        assert second.calls == []

    async def test_a_body_that_is_still_there_is(self) -> None:
        async def body() -> AsyncIterator[bytes]:
            yield b"x"

        second = Speaker()
        upstreams = UpstreamPool([member("a", Speaker(BROKEN)), member("b", second)])
        assert (await answer(upstreams, body=body()))[0] == 200

    async def test_leaving_a_call_leaves_the_upstreams(self) -> None:
        speaker = Speaker()
        upstreams = UpstreamPool([member("a", speaker)])
        with pytest.raises(ZeroDivisionError):
            async with upstreams.call(Call("POST", "/x", model="m")):
                raise ZeroDivisionError
        assert speaker.left == 1


class TestConversations:
    @pytest.mark.parametrize(
        "bad",
        [
            BROKEN,
            UpstreamTimeoutError("late"),
            UpstreamRateLimitedError("slow down"),
            UpstreamQuotaError("no more"),
        ],
        ids=lambda error: type(error).__name__,
    )
    async def test_one_that_cannot_begin_is_passed_over(self, bad: UpstreamError) -> None:
        first, second = Puppet().fail(bad), Puppet().answer("hi")
        upstreams = UpstreamPool([member("a", upstream=first), member("b", upstream=second)])
        assert await told(upstreams) == "hi<stop>"

    async def test_one_that_has_begun_is_not(self) -> None:
        first, second = Puppet().say("a").fail(BROKEN), Puppet().answer("hi")
        upstreams = UpstreamPool([member("a", upstream=first), member("b", upstream=second)])
        with pytest.raises(UpstreamFailedError):
            await told(upstreams)
        assert second.prompts == []

    async def test_a_refusal_is_the_answer(self) -> None:
        refused = UpstreamRejectedError("no", 400)
        first, second = Puppet().fail(refused), Puppet().answer("hi")
        upstreams = UpstreamPool([member("a", upstream=first), member("b", upstream=second)])
        with pytest.raises(UpstreamRejectedError):
            await told(upstreams)

    async def test_one_that_takes_text_only_is_sent_text(self) -> None:
        puppet = Puppet().answer("hi").answer("hi")
        some = member(
            "a", upstream=puppet, aliases={"mine": "base-7b"}, completions_only=("base*",)
        )
        upstreams = UpstreamPool([some])
        for model in ("mine", "m"):
            await told(upstreams, model)
        own, other = puppet.prompts
        assert (own.model, own.text, own.stop) == ("base-7b", "User: hi\nAssistant:", ("\nUser:",))
        assert (other.text, other.stop) == (None, ())
        assert [upstreams.completes_only(model) for model in ("mine", "m")] == [True, False]

    async def test_the_last_failure_is_told(self) -> None:
        upstreams = UpstreamPool([member("a", upstream=Puppet().fail(BROKEN))])
        with pytest.raises(UpstreamFailedError, match="no connection"):
            await told(upstreams)

    async def test_closing_an_answer_closes_the_upstreams(self) -> None:
        puppet = Puppet().say("a", "b")
        upstreams = UpstreamPool([member("a", upstream=puppet)])
        async with aclosing(upstreams.complete(Prompt("m", ()))) as items:  # type: ignore[type-var]
            async for item in items:
                assert not isinstance(item, Finish)
                break
        assert puppet.closed == 1

    async def test_llama_cpp_is_asked_to_tell_how_far_it_has_read(self) -> None:
        class Llama(Speaker):
            async def models(self) -> Sequence[Mapping[str, Any]]:
                return [{**one, "owned_by": "llamacpp"} for one in await super().models()]

        speakers = {"llama": Llama(), "other": Speaker()}
        for speaker in speakers.values():
            speaker.listed = ("m",)
        puppets = {name: Puppet() for name in speakers}
        for name, puppet in puppets.items():
            puppet.answer("one").answer("two")
            upstreams = UpstreamPool([member(name, speakers[name], upstream=puppet)])
            await told(upstreams)
            await upstreams.info("m")
            await told(upstreams)
        sent = {name: [p.extra for p in puppet.prompts] for name, puppet in puppets.items()}
        assert sent == {"llama": [{}, {"return_progress": True}], "other": [{}, {}]}


class TestRest:
    async def test_one_that_keeps_failing_is_left_alone_and_tried_again(self) -> None:
        clock = Clock()
        first, second = Speaker(*[500] * PATIENCE, 200), Speaker()
        upstreams = UpstreamPool([member("a", first), member("b", second)], now=clock)
        for _ in range(PATIENCE + 2):
            await answer(upstreams)
        assert len(first.calls) == PATIENCE
        clock.now += FIRST_REST
        await answer(upstreams)
        await answer(upstreams)
        assert len(first.calls) == PATIENCE + 2

    async def test_the_only_one_is_asked_even_so(self) -> None:
        speaker = Speaker(500)
        upstreams = UpstreamPool([member("a", speaker)], now=Clock())
        for _ in range(PATIENCE + 2):
            assert (await answer(upstreams))[0] == 500
        assert len(speaker.calls) == PATIENCE + 2

    async def test_both_kinds_of_failure_count(self) -> None:
        puppet = Puppet()
        for _ in range(PATIENCE):
            puppet.fail(BROKEN)
        speaker = Speaker()
        upstreams = UpstreamPool(
            [
                member("a", speaker, upstream=puppet),
                member("b", upstream=Puppet().answer().answer().answer()),
            ],
            now=Clock(),
        )
        for _ in range(PATIENCE):
            await told(upstreams)
        await answer(upstreams)
        assert speaker.calls == []

    async def test_its_state_is_told(self) -> None:
        upstreams = UpstreamPool([member("a", Speaker(429)), member("b")], now=Clock())
        for _ in range(PATIENCE):
            await answer(upstreams)
        first, second = upstreams.state()
        assert (first.name, first.calls, first.failures, first.resting) == ("a", 3, 3, 60.0)
        assert (second.name, second.calls, second.failures, second.resting) == ("b", 3, 0, 0.0)


class TestModels:
    async def test_all_are_listed_once_with_aliases_and_names(self) -> None:
        first = Speaker(models=["gpt-4o", "whisper"])
        second = Speaker(models=["gpt-4o", "llama"])
        upstreams = UpstreamPool(
            [
                member("a", first, models=("gpt-*", "gpt-exact"), aliases={"fast": "gpt-4o"}),
                member("b", second, model_list=("known",)),
            ]
        )
        found = await upstreams.models()
        assert [one["id"] for one in found] == ["gpt-4o", "fast", "gpt-exact", "llama", "known"]
        for one in found:
            assert set(one) == {"id", "object", "created", "owned_by"}
            assert isinstance(one["created"], int)

    async def test_one_that_cannot_list_hides_no_other(self) -> None:
        broken, good = Speaker(), Speaker(models=["llama"])
        broken.listed = BROKEN
        upstreams = UpstreamPool([member("a", broken, models=("gpt-5", "o*")), member("b", good)])
        assert [one["id"] for one in await upstreams.models()] == ["gpt-5", "llama"]

    async def test_a_list_is_kept_for_a_while(self) -> None:
        clock = Clock()
        speaker = Speaker(models=["llama"])
        upstreams = UpstreamPool([member("a", speaker)], now=clock)
        await upstreams.models()
        await upstreams.models()
        assert speaker.lists == 1
        clock.now += 61
        speaker.listed = BROKEN
        assert [one["id"] for one in await upstreams.models()] == ["llama"]
        assert speaker.lists == 2

    async def test_a_list_that_changes_of_itself_is_not_kept(self) -> None:
        speaker = Speaker(models=["llama"])
        upstreams = UpstreamPool([member("a", speaker, list_seconds=0.0)], now=Clock())
        await upstreams.models()
        await upstreams.models()
        assert speaker.lists == 2

    async def test_what_one_says_of_itself_is_beside_how_it_does(self) -> None:
        upstreams = UpstreamPool([member("a", detail=lambda: {"pid": 7}), member("b")])
        assert [dict(state.detail) for state in upstreams.state()] == [{"pid": 7}, {}]

    async def test_closing_closes_all(self) -> None:
        speakers = [Speaker(), Speaker()]
        await UpstreamPool([member("a", speakers[0]), member("b", speakers[1])]).close()
        assert all(speaker.closed for speaker in speakers)
