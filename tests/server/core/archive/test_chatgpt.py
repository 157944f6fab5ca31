"""ChatGPT's export comes in with its branches, and what has no place here is counted."""

from __future__ import annotations

import random
from typing import Any

import pytest

from server.core.archive.records import Found
from storage.model import Role
from tests.server.core.archive.chatgpt_sample import (
    ID,
    IMAGE,
    ROOT,
    START,
    VOICE,
    WHOLE,
    conversation,
    node,
    text,
    uuid,
)
from tests.server.core.archive.files import NOW, dumped, failed, found, reads

MICROS = round(START * 1_000_000)


def said(read: Found) -> dict[str, Any]:
    return {message.id: message.content for message in read.messages}


def parents(read: Found) -> dict[str, str | None]:
    return {message.id: message.parent_id for message in read.messages}


async def content_of(content: Any, role: str = "assistant", **fields: Any) -> tuple[str, Any]:
    """Return what one message says, and what was dropped of it."""
    read = await found([conversation(node(1, None, role, content, **fields))])
    return "".join(str(one.content) for one in read.messages), dict(read.dropped)


async def test_a_whole_conversation() -> None:
    read = await found([WHOLE])
    assert read.conversation.id == ID
    assert read.conversation.title == "Painting a fence"
    assert read.conversation.created_at == MICROS
    assert read.conversation.updated_at == MICROS + 100_000_000
    assert read.conversation.head_id == uuid(11)
    assert read.conversation.metadata == {
        "chatgpt": {"default_model_slug": "gpt-4o", "is_archived": False}
    }
    assert read.dropped == {
        "image_asset_pointer": 1,
        "recipient": 1,
        "author_name": 1,
        "citation": 1,
    }
    assert read.turns == ()


async def test_the_tree_of_a_conversation() -> None:
    read = await found([WHOLE])
    assert parents(read) == {
        uuid(2): None,
        uuid(3): uuid(2),
        uuid(5): uuid(3),
        uuid(4): uuid(2),
        uuid(6): uuid(4),
        uuid(7): uuid(6),
        uuid(8): uuid(7),
        uuid(9): uuid(8),
        uuid(11): uuid(9),
        uuid(12): uuid(4),
    }
    order = [message.id for message in read.messages]
    assert all(one.parent_id in [None, *order[:place]] for place, one in enumerate(read.messages))


async def test_the_messages_of_a_conversation() -> None:
    messages = {message.id: message for message in (await found([WHOLE])).messages}
    assert {id_: (one.role, one.content) for id_, one in messages.items()} == {
        uuid(2): (Role.SYSTEM, "I paint.\nBe brief."),
        uuid(3): (Role.USER, "How do I paint a fence?"),
        uuid(4): (Role.USER, "And this?"),
        uuid(5): (Role.ASSISTANT, "With a brush."),
        uuid(6): (Role.ASSISTANT, "Looking\nIt is a fence."),
        uuid(7): (Role.ASSISTANT, "Thought"),
        uuid(8): (Role.ASSISTANT, "```python\nprint(2)\n```"),
        uuid(9): (Role.TOOL, "2"),
        uuid(11): (Role.ASSISTANT, "Two coats."),
        uuid(12): (Role.ASSISTANT, "Three coats."),
    }
    assert messages[uuid(11)].model == "o3"
    assert messages[uuid(3)].model is None
    assert messages[uuid(3)].created_at == MICROS + 3_000_000
    assert messages[uuid(2)].created_at == MICROS
    assert (messages[uuid(3)].tokens, messages[uuid(3)].encoding) == (6, "words")


async def test_one_conversation_alone() -> None:
    alone = await found(WHOLE)
    assert alone.conversation == (await found([WHOLE])).conversation


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        (text("one", "two"), "one\ntwo"),
        ({"content_type": "code", "language": "unknown", "text": "search()"}, "search()"),
        (
            {"content_type": "code", "language": "md", "text": "```\na\n```"},
            "````md\n```\na\n```\n````",
        ),
        ({"content_type": "tether_quote", "title": "T", "url": "U", "text": "Q"}, "T\nU\nQ"),
        ({"content_type": "tether_browsing_display", "result": "R", "summary": "S"}, "R\nS"),
        ({"content_type": "system_error", "name": "E", "text": "broke"}, "E\nbroke"),
        ({"content_type": "system_error", "parts": ["broke"]}, "broke"),
        ({"content_type": "sonic_webpage", "title": "T", "url": "U", "text": "P"}, "T\nU\nP"),
        ({"content_type": "thoughts", "thoughts": "plain"}, "plain"),
        ({"content_type": "of_tomorrow", "text": "found"}, "found"),
        ({"content_type": "of_tomorrow", "parts": ["found", {"text": "too"}]}, "found\ntoo"),
        (
            {"content_type": "multimodal_text", "parts": [{"content_type": "text", "text": "a"}]},
            "a",
        ),
        ({"content_type": "multimodal_text", "parts": [text("deep")]}, "deep"),
    ],
)
async def test_text_of_every_type_is_kept(content: Any, kept: str) -> None:
    assert await content_of(content) == (kept, {})


@pytest.mark.parametrize(
    ("content", "kept", "dropped"),
    [
        (
            {
                "content_type": "multimodal_text",
                "parts": [{"content_type": "audio_transcription", "text": "spoken"}, VOICE],
            },
            "spoken",
            {"real_time_user_audio_video_asset_pointer": 1},
        ),
        (
            {"content_type": "multimodal_text", "parts": [IMAGE, IMAGE]},
            "",
            {"image_asset_pointer": 2},
        ),
        (text({"content_type": "audio_asset_pointer"}), "", {"audio_asset_pointer": 1}),
        ({"content_type": "of_tomorrow", "payload": {"a": 1}}, "", {"of_tomorrow": 1}),
        ({"content_type": "of tomorrow\n"}, "", {"part": 1}),
        ({"content_type": ["odd"]}, "", {"part": 1}),
        (text({"odd": True}, None, 7), "", {"part": 1}),
        ("plain\ud800", "plain\ufffd", {"character": 1}),
        (text("\x00 \udc00 \ud83d\ude00 \\u0000"), "\ufffd \ufffd 😀 \\u0000", {"character": 2}),
    ],
)
async def test_what_is_no_text_is_counted(content: Any, kept: str, dropped: dict[str, int]) -> None:
    assert await content_of(content) == (kept, dropped)


async def test_what_stands_beside_a_message_is_counted() -> None:
    metadata = {
        "attachments": [{"name": "a.pdf"}, {"name": "b.pdf"}],
        "content_references": [{}],
        "aggregate_result": {"messages": [{"message_type": "image", "image_url": "x"}]},
    }
    assert await content_of(text("here"), metadata=metadata) == (
        "here",
        {"attachment": 2, "content_reference": 1, "execution_image": 1},
    )


async def test_custom_instructions_of_older_exports() -> None:
    data = {"about_user_message": "I paint.", "about_model_message": "Be brief."}
    metadata = {"is_user_system_message": True, "user_context_message_data": data}
    assert await content_of(text(""), "system", metadata=metadata) == ("I paint.\nBe brief.", {})


async def test_empty_messages_give_their_children_to_the_one_above() -> None:
    read = await found(
        [
            conversation(
                node(1, None),
                {"id": uuid(2), "parent": uuid(1), "children": []},
                node(3, 2, content=text("", "  ")),
                node(4, 3, content=None, message=None) | {"message": None},
                node(5, 4),
            )
        ]
    )
    assert parents(read) == {uuid(1): None, uuid(5): uuid(1)}
    assert not read.dropped


async def test_a_missing_parent_is_the_root() -> None:
    read = await found([conversation(node(1, 99), node(2, 1), node(3, "client-created-root"))])
    assert parents(read) == {uuid(1): None, uuid(2): uuid(1), uuid(3): None}
    assert read.dropped == {"missing_parent": 2}


async def test_children_are_believed_where_a_node_names_no_parent() -> None:
    read = await found([conversation(node(1, None, children=[2]), node(2, None), node(3, 99))])
    assert parents(read) == {uuid(1): None, uuid(2): uuid(1), uuid(3): None}
    assert read.dropped == {"missing_parent": 1}


async def test_siblings_stand_as_they_are_listed() -> None:
    read = await found([conversation(node(1, None, children=[3, 2]), node(2, 1), node(3, 1))])
    assert list(said(read)) == [uuid(1), uuid(3), uuid(2)]


async def test_rings_are_cut() -> None:
    nodes = [node(1, 3), node(2, 1), node(3, 2), node(4, 3), node(5, 5), node(6, None)]
    read = await found([conversation(*nodes)])
    assert read.dropped == {"parent_cycle": 2}
    assert parents(read) == {
        uuid(1): None,
        uuid(2): uuid(1),
        uuid(3): uuid(2),
        uuid(4): uuid(3),
        uuid(5): None,
        uuid(6): None,
    }


async def test_a_chain_of_three_thousand() -> None:
    nodes = [node(number, number - 1 if number else None) for number in range(3_000)]
    random.Random(1).shuffle(nodes)
    read = await found([conversation(*nodes, current_node=uuid(2_999))])
    assert [message.id for message in read.messages] == [uuid(n) for n in range(3_000)]


@pytest.mark.parametrize(
    ("current", "head", "dropped"),
    [
        (uuid(2), uuid(2), {}),
        (uuid(4), uuid(1), {}),
        ("client-created-root", uuid(3), {}),
        (None, uuid(3), {}),
        (uuid(99), uuid(3), {"current_node": 1}),
        (7, uuid(3), {"current_node": 1}),
    ],
)
async def test_the_head(current: Any, head: str, dropped: dict[str, int]) -> None:
    nodes = [ROOT, node(1, ROOT["id"]), node(2, 1), node(3, 1), node(4, 1, content=text(""))]
    read = await found([conversation(*nodes, current_node=current)])
    assert (read.conversation.head_id, read.dropped) == (head, dropped)


async def test_ids_that_cannot_be_kept_get_others() -> None:
    nodes = [node(1, None), node(2, 1, id=uuid(1)), node(3, 2, id="no/id"), node(4, 3, id=uuid(1))]
    nodes[3]["id"] = "a node"
    first, second = await found([conversation(*nodes)]), await found([conversation(*nodes)])
    ids = [message.id for message in first.messages]
    assert ids == [message.id for message in second.messages]
    assert ids[:3] == [uuid(1), uuid(2), uuid(3)]
    assert ids[3].startswith("msg_")
    assert first.dropped == {"message_id": 3}


async def test_a_key_that_stands_twice_is_counted() -> None:
    data = dumped([conversation(node(1, None), node(2, None))]).replace(
        uuid(2).encode(), uuid(1).encode()
    )
    assert (await found(data)).dropped == {"duplicate_key": 1}


@pytest.mark.parametrize(
    ("fields", "id_"),
    [
        ({"conversation_id": None}, ID),
        ({"id": None}, ID),
        ({"conversation_id": "WEB:12"}, "WEB:12"),
    ],
)
async def test_the_conversation_id(fields: dict[str, Any], id_: str) -> None:
    read = await found([conversation(node(1, None), **fields)])
    assert (read.conversation.id, read.dropped) == (id_, {})


@pytest.mark.parametrize("id_", [None, "new", "with space", 7])
async def test_an_unfit_conversation_id_gives_way(id_: Any) -> None:
    data = [conversation(node(1, None), conversation_id=id_, id=id_)]
    first, second = await found(data), await found(data)
    assert first.conversation.id == second.conversation.id
    assert first.conversation.id.startswith("conv_")
    assert first.dropped == {"conversation_id": 1}


@pytest.mark.parametrize("odd", ["soon", -1, 1e300, 10**400, True, [], {"a": 1}])
async def test_times_that_are_none_are_counted(odd: Any) -> None:
    fields = {"create_time": odd, "update_time": odd}
    read = await found([conversation(node(1, None, create_time=odd), **fields)])
    assert read.dropped == {"time": 3}
    assert read.conversation.created_at == read.messages[0].created_at == NOW


async def test_a_conversation_without_times_takes_its_messages() -> None:
    nodes = [node(2, None), node(1, None)]
    read = await found([conversation(*nodes, create_time=None, update_time=None)])
    assert read.conversation.created_at == MICROS + 1_000_000
    assert read.conversation.updated_at == MICROS + 2_000_000


async def test_times_as_text() -> None:
    read = await found([conversation(node(1, None), create_time="2024-02-29T12:00:00.5+01:00")])
    assert read.conversation.created_at == 1_709_204_400_500_000


async def test_a_conversation_without_a_title_gets_its_first_question() -> None:
    read = await found([conversation(node(1, None, "assistant"), node(2, 1), title=None)])
    assert read.conversation.title == "text 2"


async def test_a_long_title_is_cut() -> None:
    read = await found([conversation(node(1, None), title="x" * 300)])
    assert read.conversation.title == "x" * 199 + "…"
    assert read.dropped == {"title": 1}


async def test_metadata_that_is_too_large_is_counted() -> None:
    read = await found([conversation(node(1, None), gizmo_id="g" * 20_000)])
    assert read.conversation.metadata == {}
    assert read.dropped == {"metadata": 1}


async def test_roles_that_nobody_knows_are_tools() -> None:
    nodes = [
        node(1, None, "developer"),
        node(2, 1, "function"),
        node(3, 2, "critic"),
        node(4, 3, author=7),
    ]
    read = await found([conversation(*nodes)])
    assert [m.role for m in read.messages] == [Role.SYSTEM, Role.TOOL, Role.TOOL, Role.TOOL]
    assert read.dropped == {"role": 2}


async def test_a_model_that_is_no_name_is_counted() -> None:
    read = await found([conversation(node(1, None, "assistant", metadata={"model_slug": "a\nb"}))])
    assert read.messages[0].model is None
    assert read.dropped == {"model": 1}


@pytest.mark.parametrize("odd", [None, 7, "x", [], {"message": 7}, {"message": {"content": None}}])
async def test_odd_nodes_are_counted(odd: Any) -> None:
    whole = conversation(node(1, None))
    whole["mapping"]["odd"] = odd
    read = await found([whole])
    assert list(said(read)) == [uuid(1)]
    assert sum(read.dropped.values()) == (0 if isinstance(odd, dict) and odd["message"] != 7 else 1)


async def test_a_conversation_of_nothing() -> None:
    read = await found([conversation()])
    assert read.messages == []
    assert read.conversation.head_id is None


async def test_a_mapping_that_is_none_fails() -> None:
    bad = await failed([{**WHOLE, "mapping": [{"mapping": 1}]}])
    assert (bad.index, bad.id) == (0, ID)
    assert bad.reason == "mapping must be an object of nodes."


@pytest.mark.parametrize("size", [1, 13, 70_000])
async def test_a_file_in_pieces_of_any_size(size: int) -> None:
    whole = await reads([WHOLE, conversation(node(1, None), id="b", conversation_id="b")])
    again = await reads(
        dumped([WHOLE, conversation(node(1, None), id="b", conversation_id="b")]), size
    )
    assert again == whole
