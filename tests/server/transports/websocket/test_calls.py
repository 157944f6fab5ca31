"""History over the websocket: frames that are one call, and the one frame that answers each."""

from __future__ import annotations

import json
from typing import Any

import pytest

from server.core import rendering
from server.core.conversations import Ask, Conversations
from server.transports.rest.schemas import (
    ConversationShape,
    HitShape,
    ListShape,
    MessageShape,
    PreviewShape,
)
from storage.model import Turn
from storage.port import NotFoundError
from tests.server.transports.rest.http_client import exact
from tests.server.transports.websocket.websocket_client import OWNER, Peer, Served, serving
from tests.support.access import bearing, locked
from tests.support.fakes import Puppet

EMPTY: dict[str, Any] = {
    "object": "list",
    "data": [],
    "first_id": None,
    "last_id": None,
    "has_more": False,
}


async def asked(conversations: Conversations, words: str, **more: Any) -> Turn:
    """Ask in the conversation c, and return the turn as it ended."""
    turn = await conversations.ask(OWNER, more.pop("into", "c"), Ask(words, **more))
    async for _ in conversations.follow(OWNER, turn.id):
        pass
    return await conversations.turn(OWNER, turn.id)


async def called(peer: Peer, kind: str, answered: str | None = None, **fields: Any) -> Any:
    """Make a call and return what its answer says."""
    await peer.say(kind, request_id="r", **fields)
    told = await peer.hear()
    assert (told.pop("type"), told.pop("request_id")) == (answered or kind, "r"), told
    return told


class TestConversations:
    async def test_one_is_made_read_changed_and_deleted(
        self, peer: Peer, conversations: Conversations
    ) -> None:
        given = {"title": "T", "system_prompt": "S", "model": "m", "metadata": {"a": [1, None]}}
        made = exact(
            ConversationShape, await called(peer, "create", "conversation", id="c", **given)
        )
        assert {name: made[name] for name in given} == given
        assert made == rendering.conversation(await conversations.get(OWNER, "c"))
        assert await called(peer, "conversation", conversation_id="c") == made
        changes: dict[str, Any] = {
            "title": "U",
            "system_prompt": None,
            "model": None,
            "metadata": {},
        }
        changed = await called(peer, "update", "conversation", conversation_id="c", **changes)
        assert {name: changed[name] for name in changes} == changes
        gone = await called(peer, "delete", "deleted", conversation_id="c")
        assert gone == {"conversation_id": "c"}
        with pytest.raises(NotFoundError):
            await conversations.get(OWNER, "c")

    async def test_nothing_has_to_be_said_of_it(self, peer: Peer) -> None:
        for given in ({}, {"id": None, "title": None}, {"id": "new"}):
            made = await called(peer, "create", "conversation", **given)
            assert made["id"].startswith("conv_")

    async def test_they_are_paged_newest_first_and_found_by_title(self, peer: Peer) -> None:
        assert await called(peer, "conversations") == EMPTY
        for name in "abc":
            await called(peer, "create", "conversation", id=name, title=f"Title {name}")
        page = exact(ListShape[ConversationShape], await called(peer, "conversations", limit=2))
        assert [one["id"] for one in page["data"]] == ["c", "b"]
        assert (page["first_id"], page["last_id"], page["has_more"]) == ("c", "b", True)
        rest = await called(peer, "conversations", limit=2, after=page["last_id"])
        assert ([one["id"] for one in rest["data"]], rest["has_more"]) == (["a"], False)
        found = await called(peer, "conversations", q="title b")
        assert [one["id"] for one in found["data"]] == ["b"]

    async def test_without_a_name_it_is_the_connections_own(
        self, served: Served, conversations: Conversations, upstream: Puppet
    ) -> None:
        upstream.answer("One")
        await asked(conversations, "Hello", into="mine")
        async with served.peer("?conversation_id=mine") as peer:
            assert (await called(peer, "conversation"))["id"] == "mine"
            assert len((await called(peer, "messages"))["data"]) == 2
            changed = await called(peer, "update", "conversation", title="Mine")
            assert (changed["id"], changed["title"]) == ("mine", "Mine")
            shown = await called(peer, "context", prompt="And now?")
            assert [line["role"] for line in shown["messages"]] == ["user", "assistant", "user"]

    async def test_another_keys_is_not_there(self, conversations: Conversations) -> None:
        await conversations.create("a", id="c", title="Secret")
        async with (
            serving(conversations, locked("a:1,b:2")) as served,
            served.peer(additional_headers=bearing("2")) as peer,
        ):
            for kind in ("conversation", "messages", "update", "delete"):
                await peer.say(kind, conversation_id="c")
                assert (await peer.refusal())["code"] == "not_found"
            assert await called(peer, "conversations") == EMPTY
            assert await called(peer, "search", q="Secret") == EMPTY


class TestMessages:
    async def test_a_branch_is_read_as_everywhere(
        self, peer: Peer, conversations: Conversations, upstream: Puppet
    ) -> None:
        upstream.answer("One").answer("Two").answer("Three")
        first = await asked(conversations, "A")
        await asked(conversations, "B")
        edited = await asked(conversations, "C", parent_id=first.answer_id)
        page = exact(ListShape[MessageShape], await called(peer, "messages", conversation_id="c"))
        branch = await conversations.messages(OWNER, "c")
        assert page["data"] == [rendering.message(one) for one in branch.items]
        assert [one["content"] for one in page["data"]] == ["A", "One", "C", "Three"]
        assert page["data"][2]["sibling_index"] == 1
        last = await called(peer, "messages", conversation_id="c", limit=1)
        assert (last["data"], last["has_more"]) == (page["data"][3:], True)
        assert last["first_id"] == last["last_id"] == edited.answer_id
        above = await called(peer, "messages", conversation_id="c", before=last["first_id"])
        assert above["data"] == page["data"][:3]
        leaf = await called(peer, "messages", conversation_id="c", leaf=first.answer_id)
        assert leaf["data"] == page["data"][:2]

    async def test_an_update_moves_the_head(
        self, peer: Peer, conversations: Conversations, upstream: Puppet
    ) -> None:
        upstream.answer("One").answer("Two")
        first = await asked(conversations, "A")
        await asked(conversations, "B")
        head = first.answer_id
        moved = await called(peer, "update", "conversation", conversation_id="c", head_id=head)
        assert moved["head_id"] == head
        assert (await called(peer, "messages", conversation_id="c"))["last_id"] == head

    async def test_calls_are_done_in_the_order_in_which_they_came(
        self, peer: Peer, conversations: Conversations
    ) -> None:
        await peer.say("create", id="c")
        for number in range(20):
            await peer.say("update", conversation_id="c", title=f"T{number}")
            await peer.say("conversation", conversation_id="c")
        await peer.say("delete", conversation_id="c")
        await peer.say("conversation", conversation_id="c")
        heard = [await peer.hear() for _ in range(43)]
        titles = [one["title"] for one in heard[1:41]]
        assert titles == [f"T{number // 2}" for number in range(40)]
        assert heard[41] == {"type": "deleted", "conversation_id": "c"}
        assert heard[42]["error"]["code"] == "not_found"

    async def test_what_was_told_to_change_is_changed_though_the_peer_leaves_at_once(
        self, served: Served, conversations: Conversations
    ) -> None:
        await conversations.create(OWNER, id="c")
        async with served.peer() as peer:
            await peer.say("update", conversation_id="c", title="Left")
            await peer.say("ping")
            while (await peer.hear())["type"] != "pong":
                pass
        await conversations.create(OWNER, id="d")  # writes are kept in their order
        assert (await conversations.get(OWNER, "c")).title == "Left"


class TestBeside:
    async def test_what_would_be_sent_is_shown_and_asks_nobody(
        self, peer: Peer, conversations: Conversations, upstream: Puppet
    ) -> None:
        upstream.answer("One")
        await asked(conversations, "Hello", system_prompt="Be brief.")
        how: dict[str, Any] = {
            "max_tokens": 10,
            "stream": True,
            "on_disconnect": "cancel",
            "if_busy": "reject",
        }
        shown = await called(peer, "context", conversation_id="c", prompt="And now?", **how)
        shape = PreviewShape.model_validate(shown)
        assert [line.role for line in shape.messages] == ["system", "user", "assistant", "user"]
        assert shape.reserved == 10
        question = Ask("And now?", max_tokens=10)
        assert shown == rendering.preview(await conversations.preview(OWNER, "c", question))
        assert len(upstream.prompts) == 1

    async def test_messages_are_found_by_their_words(
        self, peer: Peer, conversations: Conversations, upstream: Puppet
    ) -> None:
        upstream.answer("The sky").answer("The sky too")
        for name in ("c1", "c2"):
            await asked(conversations, "Which sky?", into=name)

        async def found(**fields: Any) -> list[tuple[str, str]]:
            page = await called(peer, "search", q="sky", **fields)
            ListShape[HitShape].model_validate(page)
            return sorted((h["conversation_id"], h["message"]["role"]) for h in page["data"])

        both = [(name, role) for name in ("c1", "c2") for role in ("assistant", "user")]
        assert await found() == both
        assert await found(role="user") == [("c1", "user"), ("c2", "user")]
        assert await found(conversation_id="c2", role="assistant") == [("c2", "assistant")]
        assert await found(created_after="2020-01-01T00:00:00Z") == both
        assert await found(created_before="2020-01-01T00:00:00Z") == []
        assert await found(created_after="2999-01-01T00:00:00+02:00") == []

    async def test_hits_come_in_pages(
        self, peer: Peer, conversations: Conversations, upstream: Puppet
    ) -> None:
        for number in range(3):
            upstream.answer("Good")
            await asked(conversations, f"elephant {number}", into=f"c{number}")
        seen: list[str] = []
        more, after = True, dict[str, str]()
        while more:
            page = await called(peer, "search", q="elephant", role="user", limit=2, **after)
            seen += [hit["message"]["id"] for hit in page["data"]]
            more, after = page["has_more"], {"after": page["last_id"]}
        assert len(seen) == len(set(seen)) == 3


class TestRefusals:
    @pytest.mark.parametrize(
        ("frame", "code", "param"),
        [
            ({"type": "messages", "conversation_id": "no"}, "not_found", "conversation_id"),
            ({"type": "messages", "conversation_id": 5}, "invalid_request", "conversation_id"),
            ({"type": "messages", "conversation_id": "a b"}, "invalid_request", "conversation_id"),
            ({"type": "messages", "conversation_id": "c", "limit": 0}, "invalid_request", "limit"),
            (
                {"type": "messages", "conversation_id": "c", "limit": 101},
                "invalid_request",
                "limit",
            ),
            (
                {"type": "messages", "conversation_id": "c", "limit": "9"},
                "invalid_request",
                "limit",
            ),
            (
                {"type": "messages", "conversation_id": "c", "limit": 10**30},
                "invalid_request",
                "limit",
            ),
            ({"type": "messages", "conversation_id": "c", "leaf": 1}, "invalid_request", "leaf"),
            (
                {"type": "messages", "conversation_id": "c", "before": "\0"},
                "invalid_request",
                "before",
            ),
            (
                {"type": "messages", "conversation_id": "c", "after": "m"},
                "invalid_request",
                "after",
            ),
            ({"type": "search"}, "invalid_request", "q"),
            ({"type": "search", "q": "  "}, "invalid_request", "q"),
            ({"type": "search", "q": ["a"]}, "invalid_request", "q"),
            ({"type": "search", "q": "a", "role": "poet"}, "invalid_request", "role"),
            (
                {"type": "search", "q": "a", "created_after": "yesterday"},
                "invalid_request",
                "created_after",
            ),
            (
                {"type": "search", "q": "a", "created_before": 5},
                "invalid_request",
                "created_before",
            ),
            ({"type": "search", "q": "a", "limit": True}, "invalid_request", "limit"),
            ({"type": "search", "q": "x" * 257}, "invalid_request", "q"),
            ({"type": "conversation", "conversation_id": "no"}, "not_found", "conversation_id"),
            ({"type": "conversations", "limit": 1.5}, "invalid_request", "limit"),
            ({"type": "conversations", "q": 5}, "invalid_request", "q"),
            ({"type": "create", "id": "a b"}, "invalid_request", "id"),
            ({"type": "create", "id": "c"}, "already_exists", "id"),
            ({"type": "create", "metadata": []}, "invalid_request", "metadata"),
            ({"type": "create", "head_id": "m"}, "invalid_request", "head_id"),
            ({"type": "update", "conversation_id": "no"}, "not_found", "conversation_id"),
            (
                {"type": "update", "conversation_id": "c", "title": None},
                "invalid_request",
                "title",
            ),
            (
                {"type": "update", "conversation_id": "c", "head_id": None},
                "invalid_request",
                "head_id",
            ),
            (
                {"type": "update", "conversation_id": "c", "truncation": "eat"},
                "invalid_request",
                "truncation",
            ),
            ({"type": "update", "conversation_id": "c", "model": 5}, "invalid_request", "model"),
            ({"type": "update", "conversation_id": "c", "id": "d"}, "invalid_request", "id"),
            ({"type": "delete"}, "invalid_request", "conversation_id"),
            ({"type": "delete", "conversation_id": "no"}, "not_found", "conversation_id"),
            ({"type": "context", "conversation_id": "c"}, "invalid_request", "prompt"),
            (
                {"type": "context", "conversation_id": "no", "prompt": "x"},
                "not_found",
                "conversation_id",
            ),
            (
                {"type": "context", "conversation_id": "c", "prompt": "x", "temperature": 9},
                "invalid_request",
                "temperature",
            ),
        ],
    )
    async def test_a_refusal_names_its_frame_and_field_and_the_connection_stays(
        self,
        peer: Peer,
        conversations: Conversations,
        frame: dict[str, Any],
        code: str,
        param: str,
    ) -> None:
        made = await conversations.create(OWNER, id="c")
        await peer.write(json.dumps({**frame, "request_id": "r"}))
        error = await peer.refusal()
        assert (error["code"], error["param"], error["request_id"]) == (code, param, "r"), error
        assert await called(peer, "conversation", conversation_id="c") == rendering.conversation(
            made
        )

    @pytest.mark.parametrize("field", ["leaf", "before"])
    async def test_a_message_that_is_nowhere_is_not_found(
        self, peer: Peer, conversations: Conversations, field: str
    ) -> None:
        await conversations.create(OWNER, id="c")
        await peer.say("messages", conversation_id="c", **{field: "msg_x"})
        assert (await peer.refusal())["code"] == "not_found"
