"""Our own export is checked field by field before any of it is kept."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from server.core.archive.records import Failed, Found
from server.core.errors import InvalidRequestError
from storage.model import Failure, Role, Status, Usage
from tests.server.core.archive.files import dumped, found, reads
from tests.server.core.archive.trialogue_sample import CONVERSATION, MESSAGES, MICROS, TURN


def file(*conversations: Any) -> dict[str, Any]:
    return {"format": "trialogue", "version": 1, "conversations": list(conversations)}


def changed(change: Callable[[Any], object]) -> dict[str, Any]:
    value = copy.deepcopy(CONVERSATION)
    change(value)
    return value


def with_part(**part: Any) -> dict[str, Any]:
    return changed(lambda value: value["messages"][0].update(content=[part]))


def with_turn(**fields: Any) -> dict[str, Any]:
    return {**CONVERSATION, "turns": [{**TURN, **fields}]}


async def test_everything_is_read() -> None:
    read = await found(file(CONVERSATION))
    there, (question, answer), (turn,) = read.conversation, read.messages, read.turns
    assert (there.id, there.title, there.system_prompt) == ("c", "Reasons", "Be brief.")
    assert (there.created_at, there.head_id, there.truncation) == (MICROS, "a", "summarize")
    assert there.metadata == {"a": [1, 2.5, None]}
    assert (question.role, question.content, question.created_at) == (Role.USER, "Why?", MICROS)
    assert (question.tokens, question.encoding) == (2, "cl100k_base")
    assert answer.content == [{"type": "text", "text": "So."}]
    assert (answer.parent_id, answer.model, answer.turn_id) == ("q", "gpt-4", "t")
    assert (turn.status, turn.usage, turn.drift) == (Status.FAILED, Usage(9, 3), -2)
    assert turn.error == Failure("upstream_rejected", "No.", 403)
    assert (turn.context.window, turn.ended_at) == (100, MICROS)
    assert not read.foreign


async def test_members_in_any_order() -> None:
    first = await found(file(CONVERSATION))
    sorted_ = {key: file(CONVERSATION)[key] for key in ("conversations", "format", "version")}
    assert await found(sorted_) == first


async def test_a_message_that_names_no_encoding_is_counted() -> None:
    read = await found(file(changed(lambda c: c["messages"][0].pop("encoding"))))
    assert (read.messages[0].tokens, read.messages[0].encoding) == (1, "words")


async def test_a_running_turn_is_interrupted_with_what_there_is() -> None:
    running = {**TURN, "status": "running", "answer": "So f", "answer_id": None, "ended_at": None}
    value = {**CONVERSATION, "messages": MESSAGES[:1], "turns": [running], "head_id": "q"}
    read = await found(file(value))
    (question, answer), (turn,) = read.messages, read.turns
    assert (turn.status, turn.answer_id) == (Status.INTERRUPTED, answer.id)
    assert (answer.content, answer.parent_id, answer.turn_id) == ("So f", question.id, "t")
    assert (answer.tokens, answer.encoding) == (2, "words")
    assert read.conversation.head_id == answer.id


async def test_a_turn_that_ended_while_it_was_exported_keeps_its_answer() -> None:
    running = {**TURN, "status": "running", "answer": "S", "answer_id": None, "ended_at": None}
    read = await found(file({**CONVERSATION, "turns": [running], "head_id": "q"}))
    assert [message.id for message in read.messages] == ["q", "a"]
    assert (read.turns[0].status, read.turns[0].answer_id) == (Status.INTERRUPTED, "a")
    assert read.conversation.head_id == "a"


async def test_a_running_turn_without_a_word_is_interrupted() -> None:
    running = {**TURN, "status": "running", "answer": "", "answer_id": None, "ended_at": None}
    value = {**CONVERSATION, "messages": MESSAGES[:1], "turns": [running], "head_id": "q"}
    read = await found(file(value))
    assert (len(read.messages), read.turns[0].answer_id) == (1, None)
    assert read.conversation.head_id == "q"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (7, "A conversation must be an object."),
        (changed(lambda c: c.pop("id")), "id must be a string."),
        (changed(lambda c: c.update(id="a b")), "id must be 1 to 128 characters"),
        (changed(lambda c: c.update(id="new")), "id must be another id"),
        (changed(lambda c: c.update(title=None)), "title must be a string."),
        (changed(lambda c: c.update(title="x" * 201)), "title must be at most 200"),
        (changed(lambda c: c.update(system_prompt=7)), "system_prompt must be a string."),
        (changed(lambda c: c.update(metadata=[])), "metadata must be an object."),
        (changed(lambda c: c.update(metadata={"a": "x" * 20_000})), "metadata must be at most"),
        (changed(lambda c: c.update(truncation="cut")), "truncation must be one of trim"),
        (changed(lambda c: c.update(created_at=7)), "created_at must be a string."),
        (changed(lambda c: c.update(created_at="soon")), "created_at must be an RFC 3339"),
        (changed(lambda c: c.update(updated_at="2024-05-01T10:00:00")), "updated_at must be an"),
        (changed(lambda c: c.update(created_at="1969-12-31T00:00:00Z")), "created_at must be an"),
        (changed(lambda c: c.update(message_count="2")), "message_count must be a whole"),
        (changed(lambda c: c.update(head_id="x")), "head_id must be a message of"),
        (changed(lambda c: c.update(messages={})), "messages must be a list."),
        (changed(lambda c: c["messages"].append(7)), "messages[2] must be an object."),
        (changed(lambda c: c["messages"].append(MESSAGES[0])), "messages[2].id must be an id of"),
        (changed(lambda c: c["messages"].reverse()), "messages[0].parent_id must be a message"),
        (changed(lambda c: c["messages"][0].update(id="")), "messages[0].id must be 1 to 128"),
        (changed(lambda c: c["messages"][0].update(role="me")), "messages[0].role must be one"),
        (changed(lambda c: c["messages"][0].update(content=7)), "messages[0].content must be a"),
        (changed(lambda c: c["messages"][0].update(content=[7])), "messages[0].content[0] must"),
        (changed(lambda c: c["messages"][0].update(content=[{}])), "messages[0].content[0].type"),
        (with_part(type="text"), "messages[0].content[0].text must be a string."),
        (with_part(type="image_url"), "messages[0].content[0].image_url must be an object."),
        (with_part(type="image_url", image_url={}), "messages[0].content[0].image_url.url must"),
        (changed(lambda c: c["messages"][0].update(tokens=-1)), "messages[0].tokens must be a"),
        (changed(lambda c: c["messages"][0].update(tokens=True)), "messages[0].tokens must be a"),
        (changed(lambda c: c["messages"][0].update(tokens=1.5)), "messages[0].tokens must be a"),
        (changed(lambda c: c["messages"][0].update(tokens=1 << 63)), "messages[0].tokens must"),
        (changed(lambda c: c["messages"][0].update(model="m" * 300)), "messages[0].model must"),
        (changed(lambda c: c["messages"][0].update(stands_for="1")), "messages[0].stands_for"),
        (changed(lambda c: c["turns"].append(TURN)), "turns[1].id must be an id of its own."),
        (with_turn(status="done"), "turns[0].status must be one"),
        (with_turn(model=None), "turns[0].model must be a string."),
        (with_turn(question_id="x"), "turns[0].question_id must be a message"),
        (with_turn(answer_id="x"), "turns[0].answer_id must be a message"),
        (with_turn(answer=None), "turns[0].answer must be a string."),
        (with_turn(context=None), "turns[0].context must be an object."),
        (with_turn(context={}), "turns[0].context.window must be a whole number."),
        (with_turn(usage={}), "turns[0].usage.prompt_tokens must be a whole number."),
        (with_turn(error={"code": 7}), "turns[0].error.code must be a string."),
        (with_turn(options={"tools": 7}), "turns[0].options must be what an ask may offer."),
    ],
)
async def test_a_wrong_field_is_named(value: Any, reason: str) -> None:
    first, bad = await reads(file({**CONVERSATION, "id": "d"}, value))
    assert isinstance(first, Found)
    assert isinstance(bad, Failed)
    assert bad.reason.startswith(reason)


async def test_a_place_that_failed_is_told_with_its_id() -> None:
    (bad,) = await reads(file(changed(lambda c: c.update(title=None))))
    assert (bad.index, bad.id) == (0, "c")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "head",
    [
        {"format": "trialogue", "version": 2},
        {"format": "trialogue", "version": "1"},
        {"version": 3, "format": "trialogue"},
        {"format": "other"},
    ],
)
async def test_another_version_is_refused(head: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError, match="Only version 1 of our export"):
        await reads(dumped({**head, "conversations": [CONVERSATION]}))


async def test_an_export_of_nothing() -> None:
    assert await reads(file()) == []
