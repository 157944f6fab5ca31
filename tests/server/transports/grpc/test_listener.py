"""Conversations over gRPC, as clients see them: sockets, core and database are real."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import ListValue, Struct
from google.protobuf.timestamp_pb2 import Timestamp
from trialogue.v1 import conversation_pb2 as pb

from server.core import rendering
from server.core.access.auth import EVERYONE
from server.core.turns.questions import Ask
from server.upstream.port import UpstreamFailedError
from tests.server.transports.grpc.grpc_client import (
    Served,
    heard,
    parrot,
    refusal,
    stub,
    text,
)
from tests.support.fakes import Puppet


class TestAsking:
    async def test_an_answer_is_written_under_the_eyes_of_its_asker(
        self, client: Any, puppet: Puppet
    ) -> None:
        call = client.Ask(pb.AskRequest(conversation_id="c1", prompt="Hello"))
        started = await call.read()
        assert started.started.turn.status == "running"
        assert (started.conversation_id, started.cursor) == ("c1", 0)
        puppet.say("Hé")
        first = await call.read()
        assert (first.delta.text, first.cursor) == ("Hé", 2)
        puppet.say("llo 🎉").finish()
        second, ended = await call.read(), await call.read()
        assert (second.delta.text, second.cursor) == ("llo 🎉", 7)
        assert ended.ended.turn.status == "completed"
        assert ended.ended.turn.answer == "Héllo 🎉"
        assert {event.turn_id for event in (first, second, ended)} == {started.started.turn.id}
        assert await call.read() is grpc.aio.EOF

    @pytest.mark.parametrize("asked_for", ["", "new"])
    async def test_no_conversation_named_makes_a_fresh_one(
        self, client: Any, puppet: Puppet, asked_for: str
    ) -> None:
        puppet.answer("Yes")
        events = await heard(client.Ask(pb.AskRequest(conversation_id=asked_for, prompt="A?")))
        assert events[0].conversation_id.startswith("conv_")

    async def test_every_field_of_a_question_reaches_the_upstream(
        self, client: Any, puppet: Puppet
    ) -> None:
        puppet.answer("Yes")
        asked = pb.AskRequest(
            conversation_id="c1",
            prompt="Well?",
            model="eliza-2",
            system_prompt="Be brief.",
            max_tokens=7,
            temperature=0.5,
            top_p=0.25,
            seed=-3,
            stop=["END"],
        )
        await heard(client.Ask(asked))
        (prompt,) = puppet.prompts
        assert [message.content for message in prompt.messages] == ["Be brief.", "Well?"]
        assert (prompt.model, prompt.max_tokens, prompt.temperature) == ("eliza-2", 7, 0.5)
        assert (prompt.top_p, prompt.seed, prompt.stop) == (0.25, -3, ("END",))

    async def test_content_may_be_parts(self, client: Any, puppet: Puppet) -> None:
        puppet.answer("A cat.")
        parts: list[Any] = [
            {"type": "text", "text": "What is this?"},
            {"type": "image_url", "image_url": {"url": "https://x.test/a.png"}},
        ]
        content = ListValue()
        content.extend(parts)
        await heard(client.Ask(pb.AskRequest(conversation_id="c1", content=content)))
        found = await client.ListMessages(pb.ListMessagesRequest(conversation_id="c1"))
        question = found.messages[0]
        assert question.content == "What is this?"
        assert question.parts.values[1].struct_value["image_url"]["url"] == "https://x.test/a.png"

    async def test_a_parent_begins_a_branch(self, client: Any, puppet: Puppet) -> None:
        puppet.answer("One").answer("Two")
        first = await heard(client.Ask(pb.AskRequest(conversation_id="c1", prompt="A")))
        again = pb.AskRequest(conversation_id="c1", prompt="B", parent_id="root")
        second = await heard(client.Ask(again))
        assert not second[0].started.turn.HasField("parent_id")
        leaf = first[-1].ended.turn.answer_id
        branch = await client.ListMessages(pb.ListMessagesRequest(conversation_id="c1", leaf=leaf))
        assert [message.content for message in branch.messages] == ["A", "One"]

    async def test_the_same_idempotency_key_gives_the_same_turn(
        self, client: Any, puppet: Puppet
    ) -> None:
        key = (("idempotency-key", "k1"),)
        asked = pb.AskRequest(prompt="Once?")
        first = client.Ask(asked, metadata=key)
        started = await first.read()
        joined = client.Ask(asked, metadata=key)
        assert (await joined.read()).turn_id == started.turn_id
        puppet.answer("Yes")
        assert (await first.read()).delta.text == (await joined.read()).delta.text == "Yes"
        other = client.Ask(pb.AskRequest(prompt="Twice?"), metadata=key)
        refused = await refusal(other.read())
        assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
        assert refused.reason == "IDEMPOTENCY_MISMATCH"

    async def test_a_failure_after_the_beginning_is_an_ending(
        self, client: Any, puppet: Puppet
    ) -> None:
        puppet.say("Well").fail(UpstreamFailedError("The upstream broke."))
        events = await heard(client.Ask(pb.AskRequest(prompt="Hello")))
        ended = events[-1].ended.turn
        assert (ended.status, ended.answer) == ("failed", "Well")
        assert (ended.error.code, ended.error.message) == (
            "upstream_failed",
            "The upstream broke.",
        )

    async def test_another_answer_is_a_sibling(self, client: Any, puppet: Puppet) -> None:
        puppet.answer("One").answer("Two")
        first = await heard(client.Ask(pb.AskRequest(conversation_id="c1", prompt="A")))
        again = await heard(client.Regenerate(pb.RegenerateRequest(conversation_id="c1")))
        assert text(again) == "Two"
        assert again[-1].ended.turn.question_id == first[-1].ended.turn.question_id
        assert again[-1].ended.turn.answer_id != first[-1].ended.turn.answer_id


class TestFollowing:
    async def test_every_cursor_gives_the_rest_of_the_answer(
        self, client: Any, puppet: Puppet
    ) -> None:
        answer = "né 🎉🎉 done"
        puppet.answer(*answer)
        turn = (await heard(client.Ask(pb.AskRequest(prompt="Hello"))))[-1].ended.turn
        for after in range(len(answer) + 2):
            events = await heard(
                client.FollowTurn(pb.FollowTurnRequest(turn_id=turn.id, after=after))
            )
            assert text(events) == answer[after:]
            assert events[0].HasField("started")
            assert events[0].cursor == after
            assert events[-1].ended.turn.answer == answer

    async def test_followers_on_many_connections_read_the_same(
        self, served: Served, client: Any, puppet: Puppet
    ) -> None:
        asked = client.Ask(pb.AskRequest(prompt="Hello"))
        turn_id = (await asked.read()).turn_id
        async with served.channel() as channel:
            calls = [
                stub(channel).FollowTurn(pb.FollowTurnRequest(turn_id=turn_id)) for _ in range(5)
            ]
            for call in calls:
                await call.read()
            puppet.say("one ")
            assert {(await call.read()).delta.text for call in calls} == {"one "}
            puppet.say("two").finish()
            rest = [[await call.read(), await call.read()] for call in calls]
        assert {text(events) for events in rest} == {"two"}

    async def test_a_watcher_sees_turns_that_others_ask(
        self, served: Served, client: Any, puppet: Puppet
    ) -> None:
        await client.CreateConversation(pb.CreateConversationRequest(id="c1"))
        async with served.channel() as channel:
            watch = stub(channel).WatchConversation(
                pb.WatchConversationRequest(conversation_id="c1")
            )
            await watch.initial_metadata()
            for answer in ("One", "Two"):
                puppet.answer(answer)
                asked = await heard(client.Ask(pb.AskRequest(conversation_id="c1", prompt="?")))
                seen = [await watch.read() for _ in range(3)]
                assert [event.turn_id for event in seen] == [asked[0].turn_id] * 3
                assert seen[1].delta.text == answer
            watch.cancel()

    async def test_a_watcher_goes_on_behind_what_it_saw(self, client: Any, puppet: Puppet) -> None:
        puppet.answer("One").answer("Two")
        turns = [
            (await heard(client.Ask(pb.AskRequest(conversation_id="c1", prompt="?"))))[-1]
            for _ in range(2)
        ]
        watch = client.WatchConversation(
            pb.WatchConversationRequest(
                conversation_id="c1", after_turn_id=turns[0].turn_id, after=1
            )
        )
        seen = [await watch.read() for _ in range(6)]
        watch.cancel()
        assert [event.delta.text for event in seen] == ["", "ne", "", "", "Two", ""]

    async def test_anybody_may_cancel(self, served: Served, client: Any, puppet: Puppet) -> None:
        asked = client.Ask(pb.AskRequest(prompt="Hello"))
        turn_id = (await asked.read()).turn_id
        puppet.say("So far")
        await asked.read()
        async with served.channel() as channel:
            other = stub(channel)
            assert (await other.GetTurn(pb.GetTurnRequest(turn_id=turn_id))).answer == "So far"
            turn = await other.CancelTurn(pb.CancelTurnRequest(turn_id=turn_id))
            again = await other.CancelTurn(pb.CancelTurnRequest(turn_id=turn_id))
        assert (turn.status, turn.answer) == ("cancelled", "So far")
        assert again == turn
        assert (await asked.read()).ended.turn == turn

    async def test_a_deadline_ends_the_following_alone(self, client: Any, puppet: Puppet) -> None:
        asked = client.Ask(pb.AskRequest(prompt="Hello"), timeout=2)
        turn_id = (await asked.read()).turn_id
        refused = await refusal(asked.read())
        assert refused.code is grpc.StatusCode.DEADLINE_EXCEEDED
        puppet.answer("All the same")
        events = await heard(client.FollowTurn(pb.FollowTurnRequest(turn_id=turn_id)))
        assert events[-1].ended.turn.status == "completed"
        assert text(events) == "All the same"

    @pytest.mark.parametrize(
        ("word", "status"), [("", "completed"), ("continue", "completed"), ("cancel", "cancelled")]
    )
    async def test_on_disconnect_says_what_leaving_means(
        self, served: Served, puppet: Puppet, word: str, status: str
    ) -> None:
        async with served.channel() as channel:
            asked = stub(channel).Ask(pb.AskRequest(prompt="Hello", on_disconnect=word))
            turn_id = (await asked.read()).turn_id
            puppet.say("Well")
            await asked.read()
        async with served.channel() as channel:
            follow = stub(channel).FollowTurn(pb.FollowTurnRequest(turn_id=turn_id))
            await follow.read()
            puppet.finish()
            assert (await follow.read()).delta.text == "Well"
            assert (await follow.read()).ended.turn.status == status


class TestConversations:
    async def test_a_conversation_is_made_read_changed_and_deleted(self, client: Any) -> None:
        metadata = Struct()
        metadata.update({"n": 3, "deep": {"list": [1.5, None, True, "x"]}})
        made = await client.CreateConversation(
            pb.CreateConversationRequest(
                id="c1", title="One", system_prompt="Be brief.", metadata=metadata
            )
        )
        assert (made.id, made.title, made.system_prompt) == ("c1", "One", "Be brief.")
        assert made.metadata == metadata
        assert not made.HasField("model")
        assert not made.HasField("head_id")
        assert Timestamp(seconds=1_700_000_000).seconds < made.created_at.seconds
        changed = await client.UpdateConversation(
            pb.UpdateConversationRequest(conversation_id="c1", title="", model="m")
        )
        assert (changed.title, changed.model, changed.system_prompt) == ("", "m", "Be brief.")
        assert changed.metadata == metadata
        named = pb.GetConversationRequest(conversation_id="c1")
        assert await client.GetConversation(named) == changed
        await client.DeleteConversation(pb.DeleteConversationRequest(conversation_id="c1"))
        assert (await refusal(client.GetConversation(named))).code is grpc.StatusCode.NOT_FOUND

    async def test_whole_numbers_in_metadata_stay_whole(self, served: Served, client: Any) -> None:
        metadata = Struct()
        metadata.update({"n": 3, "x": 0.5})
        await client.CreateConversation(pb.CreateConversationRequest(id="c1", metadata=metadata))
        kept = (await served.conversations.get("default", "c1")).metadata
        assert repr(dict(sorted(kept.items()))) == "{'n': 3, 'x': 0.5}"

    @pytest.mark.parametrize("asked_for", ["", "new"])
    async def test_the_server_makes_an_id(self, client: Any, asked_for: str) -> None:
        made = await client.CreateConversation(pb.CreateConversationRequest(id=asked_for))
        assert made.id.startswith("conv_")

    async def test_conversations_come_in_pages_newest_first(self, client: Any) -> None:
        for name in ("a", "b", "c"):
            await client.CreateConversation(pb.CreateConversationRequest(id=name, title=name * 3))
        page = await client.ListConversations(pb.ListConversationsRequest(limit=2))
        assert ([one.id for one in page.conversations], page.has_more) == (["c", "b"], True)
        rest = await client.ListConversations(pb.ListConversationsRequest(limit=2, after="b"))
        assert ([one.id for one in rest.conversations], rest.has_more) == (["a"], False)
        found = await client.ListConversations(pb.ListConversationsRequest(q="bb"))
        assert [one.id for one in found.conversations] == ["b"]

    async def test_messages_come_oldest_first_and_page_backwards(self, tmp_path: Path) -> None:
        async with parrot(tmp_path) as client:
            for prompt in ("one", "two"):
                await heard(client.Ask(pb.AskRequest(conversation_id="c1", prompt=prompt)))
            asked = pb.ListMessagesRequest(conversation_id="c1", limit=3)
            page = await client.ListMessages(asked)
            asked.before = page.messages[0].id
            above = await client.ListMessages(asked)
        assert [one.content for one in page.messages] == ["one ", "two", "two "]
        assert [one.role for one in page.messages] == ["assistant", "user", "assistant"]
        assert page.has_more
        assert [one.content for one in above.messages] == ["one"]
        assert not above.has_more
        assert page.messages[0].parent_id == above.messages[0].id

    async def test_messages_know_their_siblings(self, client: Any, puppet: Puppet) -> None:
        puppet.answer("One").answer("Two")
        first = await heard(client.Ask(pb.AskRequest(conversation_id="c1", prompt="A")))
        second = await heard(client.Regenerate(pb.RegenerateRequest(conversation_id="c1")))
        answers = [events[-1].ended.turn.answer_id for events in (first, second)]
        page = await client.ListMessages(pb.ListMessagesRequest(conversation_id="c1"))
        question, answer = page.messages
        assert (list(answer.sibling_ids), answer.sibling_index) == (answers, 1)
        assert (list(question.sibling_ids), question.sibling_index) == ([question.id], 0)

    async def test_messages_are_found_by_their_words(self, tmp_path: Path) -> None:
        async with parrot(tmp_path) as client:
            for name, prompt in (("c1", "a blue sky"), ("c2", "the blue sea")):
                await heard(client.Ask(pb.AskRequest(conversation_id=name, prompt=prompt)))
            both = await client.SearchMessages(pb.SearchMessagesRequest(q="blue", role="user"))
            assert {hit.conversation_id for hit in both.hits} == {"c1", "c2"}
            assert all("«blue»" in hit.snippet for hit in both.hits)
            asked = pb.SearchMessagesRequest(q="blue", role="user", conversation_id="c2")
            (hit,) = (await client.SearchMessages(asked)).hits
            assert (hit.message.content, hit.title) == ("the blue sea", "the blue sea")
            asked.created_before.seconds = 1
            assert list((await client.SearchMessages(asked)).hits) == []
            page = await client.SearchMessages(pb.SearchMessagesRequest(q="blue", limit=1))
            assert (len(page.hits), page.has_more) == (1, True)

    async def test_a_head_is_moved_and_what_leaves_is_summarised(
        self, client: Any, puppet: Puppet
    ) -> None:
        puppet.answer("One").answer("Two")
        asked = pb.AskRequest(conversation_id="c1", prompt="A", system_prompt="Be.")
        first = (await heard(client.Ask(asked)))[-1].ended.turn
        await heard(client.Ask(pb.AskRequest(conversation_id="c1", prompt="B")))
        change = pb.UpdateConversationRequest(
            conversation_id="c1", head_id=first.answer_id, truncation="summarize", system_prompt=""
        )
        changed = await client.UpdateConversation(change)
        assert (changed.head_id, changed.truncation) == (first.answer_id, "summarize")
        assert not changed.HasField("system_prompt")
        page = await client.ListMessages(pb.ListMessagesRequest(conversation_id="c1"))
        assert [one.content for one in page.messages] == ["A", "One"]

    async def test_what_would_be_sent_is_shown_and_asks_nobody(
        self, served: Served, client: Any, puppet: Puppet
    ) -> None:
        puppet.answer("One")
        asked = pb.AskRequest(conversation_id="c1", prompt="A", system_prompt="Be brief.")
        await heard(client.Ask(asked))
        asked = pb.AskRequest(conversation_id="c1", prompt="And now?", max_tokens=10)
        shown = await client.PreviewContext(asked)
        preview = await served.conversations.preview(EVERYONE, "c1", Ask("And now?", max_tokens=10))
        told = rendering.preview(preview)
        assert told.pop("object") == "context"
        lines = [MessageToDict(line) for line in shown.messages]
        assert [(line.get("id"), line["role"], line["reason"]) for line in lines] == [
            (line["id"], line["role"], line["reason"]) for line in told["messages"]
        ]
        assert [(line.tokens, line.overhead, line.kept) for line in shown.messages] == [
            (line["tokens"], line["overhead"], line["kept"]) for line in told.pop("messages")
        ]
        assert {name: getattr(shown, name) for name in told} == told
        assert len(puppet.prompts) == 1
