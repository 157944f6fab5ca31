"""A conversation in the shape of ChatGPT's export, with one of everything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

START = 1_700_000_000.25
ID = "6743aaaa-0001-8000-b000-0123456789ab"


def uuid(number: int) -> str:
    return f"{number:08x}-1111-4111-8111-111111111111"


def text(*parts: Any) -> dict[str, Any]:
    return {"content_type": "text", "parts": list(parts)}


def node(
    number: int,
    parent: int | str | None,
    role: str = "user",
    content: Any = None,
    children: Sequence[int] = (),
    **said: Any,
) -> dict[str, Any]:
    """Return a node with a message, as the export has them; `said` changes the message."""
    message: dict[str, Any] = {
        "id": uuid(number),
        "author": {"role": role, "name": None, "metadata": {}},
        "create_time": START + number,
        "update_time": None,
        "content": text(f"text {number}") if content is None else content,
        "status": "finished_successfully",
        "end_turn": None,
        "weight": 1.0,
        "metadata": {"model_slug": "gpt-4o"} if role == "assistant" else {},
        "recipient": "all",
        "channel": None,
    }
    return {
        "id": uuid(number),
        "message": {**message, **said},
        "parent": uuid(parent) if isinstance(parent, int) else parent,
        "children": [uuid(child) for child in children],
    }


def mapping(*nodes: dict[str, Any]) -> dict[str, Any]:
    return {one["id"]: one for one in nodes}


def conversation(*nodes: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "title": "Painting a fence",
        "create_time": START,
        "update_time": START + 100,
        "mapping": mapping(*nodes),
        "moderation_results": [],
        "current_node": nodes[-1]["id"] if nodes else None,
        "plugin_ids": None,
        "conversation_id": ID,
        "conversation_template_id": None,
        "gizmo_id": None,
        "is_archived": False,
        "safe_urls": [],
        "default_model_slug": "gpt-4o",
        "id": ID,
        **fields,
    }


HIDDEN = {"is_visually_hidden_from_conversation": True}
ROOT: dict[str, Any] = {
    "id": "client-created-root",
    "message": None,
    "parent": None,
    "children": [uuid(1)],
}
IMAGE = {
    "content_type": "image_asset_pointer",
    "asset_pointer": "file-service://file-abc",
    "size_bytes": 1000,
    "width": 640,
    "height": 480,
    "metadata": {"sanitized": True},
}
VOICE = {
    "content_type": "real_time_user_audio_video_asset_pointer",
    "audio_asset_pointer": {"content_type": "audio_asset_pointer", "asset_pointer": "sediment://f"},
    "frames_asset_pointers": [],
}

#: Hidden system messages, a question asked anew, two answers to it, tools, thoughts, an image.
WHOLE = conversation(
    ROOT,
    node(1, "client-created-root", "system", text(""), [2], metadata=HIDDEN, create_time=None),
    node(
        2,
        1,
        "user",
        {
            "content_type": "user_editable_context",
            "user_profile": "I paint.",
            "user_instructions": "Be brief.",
        },
        [3, 4],
        metadata=HIDDEN,
        create_time=None,
    ),
    node(3, 2, "user", text("How do I paint a fence?"), [5]),
    node(4, 2, "user", {"content_type": "multimodal_text", "parts": [IMAGE, "And this?"]}, [6, 12]),
    node(5, 3, "assistant", text("With a brush.")),
    node(
        6,
        4,
        "assistant",
        {
            "content_type": "thoughts",
            "thoughts": [{"summary": "Looking", "content": "It is a fence.", "chunks": []}],
            "source_analysis_msg_id": uuid(4),
        },
        [7],
    ),
    node(7, 6, "assistant", {"content_type": "reasoning_recap", "content": "Thought"}, [8]),
    node(
        8,
        7,
        "assistant",
        {"content_type": "code", "language": "python", "text": "print(2)"},
        [9],
        recipient="python",
    ),
    node(
        9,
        8,
        "tool",
        {"content_type": "execution_output", "text": "2"},
        [10],
        author={"role": "tool", "name": "python", "metadata": {}},
    ),
    {"id": uuid(10), "message": None, "parent": uuid(9), "children": [uuid(11)]},
    node(11, 10, "assistant", text("Two coats."), metadata={"model_slug": "o3", "citations": [{}]}),
    node(12, 4, "assistant", text("Three coats.")),
    current_node=uuid(11),
)
