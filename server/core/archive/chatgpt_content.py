"""What a message of ChatGPT says, as text; what is no text is counted by its type."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

#: Content types whose text stands in these fields.
_FIELDS: Mapping[str, tuple[str, ...]] = {
    "text": ("text",),
    "multimodal_text": ("text",),
    "code": ("text",),
    "execution_output": ("text",),
    "thoughts": ("thoughts",),
    "reasoning_recap": ("content",),
    "tether_quote": ("title", "url", "text"),
    "tether_browsing_display": ("result", "summary"),
    "user_editable_context": ("user_profile", "user_instructions"),
    "model_editable_context": ("model_set_context", "repo_summary"),
    "system_error": ("name", "text"),
    "sonic_webpage": ("title", "url", "text"),
}
#: Where types that nobody knows yet are looked into.
_ANY = ("title", "url", "text", "content", "result", "summary")
#: What ChatGPT's own page shows beside a message, by its name in the message's metadata.
_BESIDE = {
    "attachments": "attachment",
    "citations": "citation",
    "content_references": "content_reference",
    "search_result_groups": "search_result",
    "image_results": "image_result",
}
_FENCE = re.compile(r"`{3,}")
_NAME = re.compile(r"[\w.-]{1,64}", re.ASCII)


def text_in(content: Any, dropped: Counter[str]) -> str:
    """Return the text of a message's content, its parts on lines of their own."""
    return "\n".join(text for text in _texts(content, dropped) if text.strip())


def count_beside(message: Mapping[str, Any], dropped: Counter[str]) -> None:
    """Count what stands beside a message's text and has no place here."""
    metadata = message.get("metadata")
    for key, name in _BESIDE.items():
        beside = metadata.get(key) if isinstance(metadata, dict) else None
        if isinstance(beside, list) and beside:
            dropped[name] += len(beside)
    match metadata:
        case {"aggregate_result": {"messages": list(shown)}}:
            images = sum(isinstance(one, dict) and "image_url" in one for one in shown)
            dropped["execution_image"] += images
    match message.get("author"):
        case {"name": str(name)} if name:
            dropped["author_name"] += 1
    if message.get("recipient") not in (None, "all"):
        dropped["recipient"] += 1


def _texts(content: Any, dropped: Counter[str]) -> Iterator[str]:
    match content:
        case str():
            yield content
        case {"content_type": str(kind)} if kind.endswith("asset_pointer"):
            dropped[_name(kind)] += 1
        case {"content_type": "code", "text": str(code), "language": str(language)}:
            yield _fenced(code, language)
        case {"content_type": "thoughts", "thoughts": list(thoughts)}:
            for thought in thoughts:
                yield from _fields(thought, ("summary", "content"))
        case dict():
            yield from _told(content, dropped)


def _told(content: dict[str, Any], dropped: Counter[str]) -> Iterator[str]:
    """Yield what an object says in its fields and parts; one of no known type must say some."""
    kind, parts = content.get("content_type"), content.get("parts")
    known = isinstance(kind, str) and kind in _FIELDS
    found = list(_fields(content, _FIELDS[str(kind)] if known else _ANY))
    for part in parts if isinstance(parts, list) else ():
        found += _texts(part, dropped)
    if not found and not known:
        dropped[_name(kind)] += 1
    yield from found


def _fields(content: Any, names: tuple[str, ...]) -> Iterator[str]:
    for name in names:
        value = content.get(name) if isinstance(content, dict) else None
        if isinstance(value, str) and value.strip():
            yield value


def _name(kind: Any) -> str:
    return kind if isinstance(kind, str) and _NAME.fullmatch(kind) else "part"


def _fenced(code: str, language: str) -> str:
    if language in ("", "unknown") or not code.strip():
        return code
    longest = max(map(len, _FENCE.findall(code)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{code}\n{fence}"
