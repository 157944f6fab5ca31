"""EasyBackend's service, as its clients use it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from easybackend import chat_pb2 as pb
from easybackend.chat_pb2_grpc import ChatStub

from server.upstream.port import (
    UpstreamFailedError,
    UpstreamRateLimitedError,
    UpstreamRejectedError,
)
from tests.server.transports.grpc.grpc_client import Served, bearing, refusal, serving
from tests.support.access import locked
from tests.support.fakes import Parrot, Puppet

OWNER = "default"


@pytest.fixture
async def chat(served: Served) -> AsyncIterator[Any]:
    async with served.channel() as channel:
        yield ChatStub(channel)  # type: ignore[no-untyped-call]


async def frames(call: Any) -> list[str]:
    return [frame.response async for frame in call]


async def ids(served: Served, conversation_id: str) -> list[str]:
    """Return the ids of a conversation's messages, oldest first."""
    page = await served.conversations.messages(OWNER, conversation_id)
    return [message.id for message in page.items]


async def test_deltas_come_as_they_are_written(chat: Any, puppet: Puppet) -> None:
    call = chat.Ask(pb.askrequest(prompt="Hello", conversation_id="c1"))
    for piece in ("Hé", "\n\n", "llo 🎉"):
        puppet.say(piece)
        assert (await call.read()).response == piece
    puppet.finish()
    assert await call.read() is grpc.aio.EOF


@pytest.mark.parametrize("fresh", ["", "new"])
async def test_a_new_conversation_ends_with_the_ids_to_go_on_with(
    served: Served, chat: Any, puppet: Puppet, fresh: str
) -> None:
    puppet.answer("One").answer("Two")
    first = await frames(chat.Ask(pb.askrequest(prompt="A", conversation_id=fresh)))
    mark, conversation_id, answer_id = first[-1].split("$")
    assert (first[:-1], mark) == (["One"], "<|end|>")
    assert (await ids(served, conversation_id))[-1] == answer_id
    asked = pb.askrequest(prompt="B", conversation_id=conversation_id, parent_id=answer_id)
    second = await frames(chat.Ask(asked))
    told = await ids(served, conversation_id)
    assert second == ["Two", f"<|end|>${conversation_id}${told[-1]}"]
    assert [len(prompt.messages) for prompt in puppet.prompts] == [1, 3]


@pytest.mark.parametrize("unset", [{}, {"parent_id": ""}])
async def test_without_a_parent_an_answer_is_all_there_is(
    chat: Any, puppet: Puppet, unset: dict[str, str]
) -> None:
    puppet.answer("One").answer("Two")
    for answer in ("One", "Two"):
        asked = pb.askrequest(prompt="?", conversation_id="c1", **unset)
        assert await frames(chat.Ask(asked)) == [answer]
    assert len(puppet.prompts[1].messages) == 3


async def test_a_new_parent_is_the_head(served: Served, chat: Any, puppet: Puppet) -> None:
    puppet.answer("One").answer("Two")
    asked = pb.askrequest(prompt="?", conversation_id="c1", parent_id="new")
    assert (await frames(chat.Ask(asked)))[-1] == f"<|end|>$c1${(await ids(served, 'c1'))[-1]}"
    await frames(chat.Ask(asked))
    assert len(await ids(served, "c1")) == 4


async def test_an_older_parent_begins_a_branch(served: Served, chat: Any, puppet: Puppet) -> None:
    puppet.answer("One").answer("Two").answer("Three")
    for _ in range(2):
        await frames(chat.Ask(pb.askrequest(prompt="?", conversation_id="c1")))
    first_answer = (await ids(served, "c1"))[1]
    asked = pb.askrequest(prompt="!", conversation_id="c1", parent_id=first_answer)
    await frames(chat.Ask(asked))
    assert [message.content for message in puppet.prompts[2].messages] == ["?", "One", "!"]


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (UpstreamFailedError("It broke."), grpc.StatusCode.INTERNAL, "UPSTREAM_FAILED"),
        (
            UpstreamRejectedError("No such model.", 404),
            grpc.StatusCode.FAILED_PRECONDITION,
            "UPSTREAM_REJECTED",
        ),
    ],
)
async def test_a_failed_turn_is_a_status(
    chat: Any, puppet: Puppet, error: Exception, code: grpc.StatusCode, reason: str
) -> None:
    puppet.say("Well").fail(error)
    call = chat.Ask(pb.askrequest(prompt="Hello"))
    assert (await call.read()).response == "Well"
    refused = await refusal(call.read())
    assert (refused.code, refused.reason, refused.message) == (code, reason, str(error))


async def test_an_upstream_that_is_out_of_breath_says_when_to_come_again(
    chat: Any, puppet: Puppet
) -> None:
    puppet.fail(UpstreamRateLimitedError("Too many.", retry_after=7))
    refused = await refusal(chat.Ask(pb.askrequest(prompt="Hello")).read())
    assert refused.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (refused.reason, refused.retry_after) == ("RATE_LIMIT_EXCEEDED", 7)


async def test_an_answer_that_the_server_did_not_finish_is_unavailable(
    served: Served, chat: Any, puppet: Puppet
) -> None:
    call = chat.Ask(pb.askrequest(prompt="Hello"))
    puppet.say("Well")
    assert (await call.read()).response == "Well"
    await served.conversations.drain(0)
    refused = await refusal(call.read())
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")


async def test_a_cancelled_answer_ends_where_it_was_cancelled(
    served: Served, chat: Any, puppet: Puppet
) -> None:
    call = chat.Ask(pb.askrequest(prompt="Hello", conversation_id="c1", parent_id="new"))
    puppet.say("Well")
    assert (await call.read()).response == "Well"
    last = await served.conversations.messages(OWNER, "c1")
    assert last.items[0].turn_id is not None
    turn = await served.conversations.cancel(OWNER, last.items[0].turn_id)
    assert (await call.read()).response == f"<|end|>$c1${turn.answer_id}"
    assert await call.read() is grpc.aio.EOF


async def test_an_empty_prompt_is_refused(chat: Any) -> None:
    refused = await refusal(chat.Ask(pb.askrequest(conversation_id="c1")).read())
    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert (refused.reason, refused.param) == ("INVALID_REQUEST", "prompt")


async def test_a_parent_that_is_not_there_is_not_found(chat: Any) -> None:
    refused = await refusal(chat.Ask(pb.askrequest(prompt="x", parent_id="msg_1")).read())
    assert refused.code is grpc.StatusCode.NOT_FOUND


async def test_it_wants_a_key_where_one_is_needed(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, Parrot(), locked("ann:secret")) as server,
        server.channel() as channel,
    ):
        chat: Any = ChatStub(channel)  # type: ignore[no-untyped-call]
        asked = pb.askrequest(prompt="Hello", conversation_id="c1")
        assert (await refusal(chat.Ask(asked).read())).code is grpc.StatusCode.UNAUTHENTICATED
        assert await frames(chat.Ask(asked, metadata=bearing("secret"))) == ["Hello "]
