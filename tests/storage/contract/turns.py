"""The part of the store's contract about turns and claims; see `test_contract.py`."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from storage.model import Failure, Role, Status, Usage
from storage.parts import MARK, Kind, Mark, Part, row_of
from storage.port import (
    BusyError,
    IdempotencyMismatchError,
    MovedError,
    NotFoundError,
    Piece,
    Store,
)
from tests.storage.nouns import (
    ADA,
    BOB,
    DAY,
    begin,
    claim,
    conversation,
    exchange,
    message,
    outcome,
    turn,
)


class Turns:
    """Begun, checkpointed, ended, claimed."""

    async def test_a_beginning_keeps_turn_question_and_conversation(self, store: Store) -> None:
        new = conversation(system_prompt="Be brief.", model="gpt-4")
        begun = await store.begin(ADA, turn("1"), message("q_1"), conversation=new, title="Hello")
        assert begun == await store.turn(ADA, "turn_1") == turn("1")
        kept = await store.conversation(ADA, "c")
        assert (kept.system_prompt, kept.model, kept.title) == ("Be brief.", "gpt-4", "Hello")
        assert (kept.head_id, kept.message_count, kept.updated_at) == ("q_1", 1, 5)
        assert (await store.message(ADA, "c", "q_1")).depth == 1

    async def test_a_turn_tells_what_it_stands_under(self, store: Store) -> None:
        await exchange(store)
        assert (await begin(store, "2", parent="a_1")).parent_id == "a_1"

    async def test_parts_of_a_running_answer_are_checkpointed(self, store: Store) -> None:
        await begin(store)
        thought, call = Mark(0, Part(Kind.REASONING)), Mark(6, Part(Kind.TOOL_CALL, "c1", "look"))
        said = f"{MARK}Hm,\u2028\0{MARK}" + '{"a":', "1}"
        pieces = (
            Piece(ADA, "turn_1", 0, said[0][:3], (thought,)),
            Piece(ADA, "turn_1", 3, said[0][3:], (call,)),
            Piece(ADA, "turn_1", len(said[0]), said[1]),
        )
        await store.checkpoint(pieces)
        await store.checkpoint(pieces)
        parts = [
            {"type": "reasoning", "text": "Hm,\u2028\0"},
            {
                "type": "function",
                "id": "c1",
                "function": {"name": "look", "arguments": '{"a":1}'},
            },
        ]
        for running in (await store.turn(ADA, "turn_1"), (await store.running())[0][1]):
            assert (running.answer, running.parts) == ("", parts)
            assert row_of(running.content) == ("".join(said), (thought, call))

    async def test_an_answer_of_parts_is_kept_with_what_it_took(self, store: Store) -> None:
        parts = [{"type": "reasoning", "text": "Hm"}, {"type": "text", "text": "Yes"}]
        usage = Usage(7, 5, cached_tokens=3, reasoning_tokens=2)
        await begin(store)
        ended = await store.end(ADA, "turn_1", outcome("1", "Yes", parts=parts, usage=usage))
        assert ended == await store.turn(ADA, "turn_1")
        assert (ended.answer, ended.parts, ended.usage) == ("Yes", parts, usage)
        assert (await store.message(ADA, "c", "a_1")).content == parts

    async def test_an_answer_without_text_is_kept_where_there_is_another_part(
        self, store: Store
    ) -> None:
        parts = [{"type": "reasoning", "text": "Hm"}]
        await begin(store)
        cut = outcome("1", "", Status.CANCELLED, parts=parts)
        assert (await store.end(ADA, "turn_1", cut)).answer_id == "a_1"
        assert (await store.message(ADA, "c", "a_1")).content == parts

    async def test_what_was_offered_and_by_which_wire_is_kept(self, store: Store) -> None:
        options = {"tools": [{"type": "function", "function": {"name": "look"}}]}
        new = replace(turn("1"), options=options, wire="grpc")
        begun = await store.begin(ADA, new, message("q_1"), conversation=conversation())
        assert begun == await store.turn(ADA, "turn_1") == new
        ended = await store.end(ADA, "turn_1", outcome("1"))
        assert ended == await store.turn(ADA, "turn_1")
        assert (ended.options, ended.wire) == (options, "grpc")

    async def test_a_greeting_is_kept_before_the_question(self, store: Store) -> None:
        greeting = message("hi", None, Role.ASSISTANT, "Welcome")
        question = message("q_1", "hi")
        begun = await store.begin(
            ADA, turn("1"), question, conversation=conversation(), before=[greeting]
        )
        assert begun.parent_id == "hi"
        kept = await store.conversation(ADA, "c")
        assert (kept.head_id, kept.message_count) == ("q_1", 2)
        found = await store.branch(ADA, "c", "q_1", limit=9)
        assert [(one.id, one.depth) for one in found] == [("q_1", 2), ("hi", 1)]
        assert found[1].content == "Welcome"

    async def test_a_greeting_of_a_refused_turn_is_not_kept(self, store: Store) -> None:
        await begin(store)
        with pytest.raises(BusyError):
            await store.begin(
                ADA,
                turn("2"),
                message("q_2", "hi"),
                before=[message("hi", None, Role.ASSISTANT, "Welcome")],
            )
        assert (await store.conversation(ADA, "c")).message_count == 1
        with pytest.raises(NotFoundError):
            await store.message(ADA, "c", "hi")

    async def test_an_empty_conversation_takes_prompt_and_model(self, store: Store) -> None:
        await store.create(ADA, conversation(title="Mine", system_prompt="Old", metadata={"k": 1}))
        new = conversation(system_prompt="New", model="gpt-4")
        await store.begin(ADA, turn("1"), message("q_1"), conversation=new, title="Other")
        kept = await store.conversation(ADA, "c")
        assert (kept.title, kept.system_prompt, kept.model) == ("Mine", "New", "gpt-4")
        assert kept.metadata == {"k": 1}

    async def test_one_with_messages_keeps_prompt_model_and_title(self, store: Store) -> None:
        first = conversation(system_prompt="First", model="gpt-4")
        await store.begin(ADA, turn("1"), message("q_1"), conversation=first, title="First")
        await store.end(ADA, "turn_1", outcome("1"))
        second = conversation(system_prompt="Second", model="gpt-5")
        await store.begin(ADA, turn("2"), message("q_2"), conversation=second, title="Second")
        kept = await store.conversation(ADA, "c")
        assert (kept.system_prompt, kept.model, kept.title) == ("First", "gpt-4", "First")

    async def test_only_a_first_question_gives_a_title(self, store: Store) -> None:
        await begin(store, "1", title="")
        await store.end(ADA, "turn_1", outcome("1"))
        await begin(store, "2", parent="a_1", title="Second")
        assert (await store.conversation(ADA, "c")).title == ""
        await begin(store, "3", into="d", title="First")
        assert (await store.conversation(ADA, "d")).title == "First"

    async def test_of_many_turns_those_that_failed_are_told(self, store: Store) -> None:
        for number, status in enumerate((Status.FAILED, Status.COMPLETED, Status.FAILED)):
            await begin(store, str(number), into=f"c{number}")
            await store.end(ADA, f"turn_{number}", outcome(str(number), status=status))
        await begin(store, "3", into="c3")
        asked = [f"turn_{number}" for number in range(1, 9)]
        assert set(await store.failed(ADA, asked)) == {"turn_2"}
        assert not await store.failed(BOB, asked)
        assert not await store.failed(ADA, [])
        await store.delete(ADA, "c2")
        assert not await store.failed(ADA, asked)

    async def test_a_second_running_turn_is_refused_and_leaves_nothing(self, store: Store) -> None:
        await begin(store)
        before = await store.conversation(ADA, "c")
        with pytest.raises(BusyError):
            await begin(store, "2", parent="q_1", claim=claim())
        assert await store.conversation(ADA, "c") == before
        assert await store.claimed(ADA, claim()) is None
        for missing in (store.message(ADA, "c", "q_2"), store.turn(ADA, "turn_2")):
            with pytest.raises(NotFoundError):
                await missing

    async def test_one_of_many_beginnings_at_once_wins(self, store: Store) -> None:
        await store.create(ADA, conversation())
        tried = [begin(store, str(number)) for number in range(50)]
        results = await asyncio.gather(*tried, return_exceptions=True)
        assert sum(isinstance(result, BusyError) for result in results) == 49
        assert (await store.conversation(ADA, "c")).message_count == 1

    @pytest.mark.parametrize("made", [True, False])
    async def test_one_planned_for_another_head_is_refused_and_leaves_nothing(
        self, store: Store, made: bool
    ) -> None:
        await exchange(store)
        new = conversation() if made else None
        for planned_on in (None, "q_1", "nowhere"):
            with pytest.raises(MovedError):
                await store.begin(
                    ADA,
                    turn("2"),
                    message("q_2", "a_1"),
                    conversation=new,
                    claim=claim(),
                    head=planned_on,
                )
        assert (await store.conversation(ADA, "c")).message_count == 2
        assert await store.claimed(ADA, claim()) is None
        await store.begin(ADA, turn("2"), message("q_2", "a_1"), conversation=new, head="a_1")
        assert (await store.conversation(ADA, "c")).head_id == "q_2"

    async def test_a_new_conversation_has_no_head_to_plan_for(self, store: Store) -> None:
        with pytest.raises(MovedError):
            await store.begin(
                ADA, turn("1"), message("q_1"), conversation=conversation(), head="a_0"
            )
        with pytest.raises(NotFoundError):
            await store.conversation(ADA, "c")
        await store.begin(ADA, turn("1"), message("q_1"), conversation=conversation(), head=None)

    async def test_of_many_planned_for_one_head_one_begins(self, store: Store) -> None:
        await exchange(store)

        async def ask(name: str) -> None:
            await store.begin(ADA, turn(name), message(f"q_{name}", "a_1"), head="a_1")
            await store.end(ADA, f"turn_{name}", outcome(name))

        tried = [ask(str(number)) for number in range(2, 32)]
        results = await asyncio.gather(*tried, return_exceptions=True)
        assert all(isinstance(result, BusyError | MovedError | None) for result in results)
        assert results.count(None) == 1
        assert (await store.siblings(ADA, "c", ["a_1"]))["a_1"] == [f"q_{2 + results.index(None)}"]

    async def test_an_unknown_parent_leaves_no_conversation(self, store: Store) -> None:
        with pytest.raises(NotFoundError):
            await begin(store, parent="nowhere", claim=claim())
        with pytest.raises(NotFoundError):
            await store.conversation(ADA, "c")
        assert await store.claimed(ADA, claim()) is None

    async def test_another_answer_hangs_under_the_kept_question(self, store: Store) -> None:
        await exchange(store)
        again = await store.begin(ADA, turn("2", question="q_1"), None)
        assert (again.question_id, again.parent_id) == ("q_1", None)
        assert (await store.conversation(ADA, "c")).head_id == "a_1"
        await store.end(ADA, "turn_2", outcome("2"))
        kept = await store.conversation(ADA, "c")
        assert (kept.head_id, kept.message_count) == ("a_2", 3)

    async def test_a_running_answer_is_what_was_checkpointed(self, store: Store) -> None:
        await begin(store)
        await begin(store, "2", into="other")
        await store.checkpoint([Piece(ADA, "turn_1", 0, "Hel"), Piece(ADA, "turn_2", 0, "Other")])
        await store.checkpoint([Piece(ADA, "turn_1", 3, "lo 👋")])
        await store.checkpoint(
            [Piece(ADA, "turn_1", 3, "lo 👋 wo"), Piece(ADA, "turn_1", 10, "rld")]
        )
        assert (await store.turn(ADA, "turn_1")).answer == "Hello 👋 world"
        assert (await store.turn(ADA, "turn_2")).answer == "Other"

    async def test_checkpoints_come_in_order_of_position(self, store: Store) -> None:
        await begin(store)
        for position in (100, 9, 20, 0):
            await store.checkpoint([Piece(ADA, "turn_1", position, f"{position};")])
        assert (await store.turn(ADA, "turn_1")).answer == "0;9;20;100;"

    async def test_a_checkpoint_after_the_end_changes_nothing(self, store: Store) -> None:
        await exchange(store)
        await store.checkpoint([Piece(ADA, "turn_1", 0, "late")])
        assert (await store.turn(ADA, "turn_1")).answer == "Hi"

    @pytest.mark.parametrize("status", [s for s in Status if s is not Status.RUNNING])
    @pytest.mark.parametrize("text", ["", "Some"])
    async def test_an_answer_is_kept_where_there_is_text_or_the_turn_completed(
        self, store: Store, status: Status, text: str
    ) -> None:
        await begin(store)
        await store.checkpoint([Piece(ADA, "turn_1", 0, "Som")])
        ended = await store.end(ADA, "turn_1", outcome("1", text, status))
        assert ended == await store.turn(ADA, "turn_1")
        assert (ended.status, ended.answer, ended.ended_at) == (status, text, 9)
        kept = bool(text) or status is Status.COMPLETED
        head = (await store.conversation(ADA, "c")).head_id
        assert (ended.answer_id, head) == (("a_1", "a_1") if kept else (None, "q_1"))

    async def test_an_end_keeps_all_that_is_told_of_it(self, store: Store) -> None:
        await begin(store)
        told: dict[str, Any] = {
            "finish_reason": "length",
            "usage": Usage(7, 3),
            "error": Failure("upstream_rejected", "No 🙂", 451),
            "drift": -2,
        }
        ended = await store.end(ADA, "turn_1", outcome("1", "Hi", Status.FAILED, **told))
        assert {name: getattr(ended, name) for name in told} == told
        answer = await store.message(ADA, "c", "a_1")
        assert (answer.role, answer.parent_id, answer.turn_id) == (Role.ASSISTANT, "q_1", "turn_1")
        assert (answer.tokens, answer.encoding, answer.model) == (2, "o200k_base", "gpt-4o")
        assert (await store.conversation(ADA, "c")).updated_at == 9

    async def test_the_first_end_stands(self, store: Store) -> None:
        first = await exchange(store)
        assert await store.end(ADA, "turn_1", outcome("x", "other", Status.FAILED)) == first
        assert (await store.conversation(ADA, "c")).message_count == 2

    async def test_what_runs_is_found_whosever_it_is(self, store: Store) -> None:
        await exchange(store, "0", into="ended")
        await begin(store)
        await begin(store, owner=BOB)
        await store.checkpoint([Piece(BOB, "turn_1", 0, "Half")])
        found = await store.running()
        assert [(owner, t.id, t.answer) for owner, t in found] == [
            (ADA, "turn_1", ""),
            (BOB, "turn_1", "Half"),
        ]

    async def test_turns_come_in_the_order_of_their_beginning(self, store: Store) -> None:
        for name in ("b", "c", "a"):
            await exchange(store, name)
            await exchange(store, f"{name}_elsewhere", into="other")
        order, after = [], None
        while (found := await store.next_turn(ADA, "c", after)) is not None:
            order.append(after := found.id)
        assert order == ["turn_b", "turn_c", "turn_a"]
        last = await store.last_turn(ADA, "c")
        assert last is not None
        assert last.id == "turn_a"

    async def test_a_conversation_without_turns_has_none(self, store: Store) -> None:
        await store.create(ADA, conversation())
        assert await store.next_turn(ADA, "c", None) is None
        assert await store.last_turn(ADA, "c") is None

    async def test_a_claim_stands_for_its_turn_a_day(self, store: Store) -> None:
        await begin(store, claim=claim(now=DAY))
        assert await store.claimed(ADA, claim(now=2 * DAY - 1)) == "turn_1"
        with pytest.raises(IdempotencyMismatchError):
            await store.claimed(ADA, claim(fingerprint=b"other"))
        assert await store.claimed(ADA, claim("another key")) is None
        assert await store.claimed(ADA, claim(fingerprint=b"other", now=2 * DAY)) is None

    async def test_a_claim_on_an_interrupted_turn_moves_on(self, store: Store) -> None:
        await begin(store, claim=claim())
        await store.end(ADA, "turn_1", outcome("1", status=Status.INTERRUPTED))
        later = claim(now=DAY + 5)
        await store.begin(ADA, turn("2", question="q_1"), None, claim=later)
        assert await store.claimed(ADA, later) == "turn_2"
        assert await store.claimed(ADA, claim(now=2 * DAY + 4)) == "turn_2"

    @pytest.mark.parametrize("ended", [None, Status.COMPLETED, Status.CANCELLED, Status.FAILED])
    async def test_a_claim_on_any_other_turn_stays(
        self, store: Store, ended: Status | None
    ) -> None:
        await begin(store, claim=claim())
        if ended is not None:
            await store.end(ADA, "turn_1", outcome("1", status=ended))
        with pytest.raises(BusyError):
            await begin(store, "2", into="other", claim=claim())
        with pytest.raises(NotFoundError):
            await store.turn(ADA, "turn_2")
        assert await store.claimed(ADA, claim()) == "turn_1"

    async def test_a_claim_for_another_request_does_not_move(self, store: Store) -> None:
        await begin(store, claim=claim())
        await store.end(ADA, "turn_1", outcome("1", status=Status.INTERRUPTED))
        with pytest.raises(BusyError):
            await begin(store, "2", into="other", claim=claim(fingerprint=b"other"))
        assert await store.claimed(ADA, claim()) == "turn_1"

    async def test_a_key_can_be_claimed_again_after_a_day(self, store: Store) -> None:
        await begin(store, claim=claim(now=DAY))
        await store.end(ADA, "turn_1", outcome("1"))
        await begin(store, "2", claim=claim(fingerprint=b"new", now=2 * DAY))
        assert await store.claimed(ADA, claim(fingerprint=b"new", now=2 * DAY)) == "turn_2"
