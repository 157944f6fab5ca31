"""Which things at an upstream a request's body names, whether or not they are there."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable
from functools import partial
from typing import Any

#: Fields that name a thing without saying so in their own name.
NAMING = frozenset(
    (
        "approval_request_id",
        "assistant_id",
        "batch_id",
        "comparison_response_id",
        "consent",
        "container",
        "container_id",
        "conversation",
        "conversation_id",
        "file",
        "file_id",
        "file_ids",
        "files",
        "input_file_id",
        "message_id",
        "part_ids",
        "previous_item_id",
        "previous_response_id",
        "response_id",
        "run_id",
        "skill_id",
        "source_file_id",
        "thread_id",
        "training_file",
        "upload_id",
        "validation_file",
        "vector_store",
        "vector_store_id",
        "vector_store_ids",
        "video_id",
        "voice_id",
    )
)
#: Fields named as an id that name nothing which is stored at an upstream.
_NAMELESS = frozenset(
    (
        "call_id",
        "client_event_id",
        "client_id",
        "connector_id",
        "custom_id",
        "event_id",
        "prompt_id",
        "request_id",
        "stream_id",
        "tool_call_id",
        "trace_id",
        "user_id",
    )
)
#: What of a body is anybody's words, or a schema: no upstream looks there for what it has stored.
_WORDS = frozenset(
    (
        "annotations",
        "arguments",
        "attributes",
        "chat_template_kwargs",
        "code",
        "data",
        "description",
        "encrypted_content",
        "filename",
        "headers",
        "input_schema",
        "instructions",
        "kv_transfer_params",
        "metadata",
        "name",
        "output",
        "parameters",
        "prompt_cache_key",
        "refusal",
        "safety_identifier",
        "schema",
        "text",
        "title",
        "type",
        "url",
        "user",
    )
)
#: Whose `id` is not that of a thing.
_ANONYMOUS = frozenset(
    ("prompt", "tool_calls", "acknowledged_safety_checks", "pending_safety_checks")
)
#: Skills that OpenAI offers to everybody.
_OF_OPENAI = "openai-"
#: Where a text is a text, though an object may be a reference.
_TEXTS = frozenset(("content", "input", "prompt", "query", "summary", "stop"))
#: An id as OpenAI makes them, wherever it stands.
_ID = (
    r"(?:asst|batch|cfile|char|cmp|cntr|cons|container|conv|fc|file|ft|ftjob|item|msg|part|resp|rs"
    r"|run|sess|skill|step|thread|upload|video|voice|vs|vsfb)[-_][A-Za-z0-9]{16,}"
)
_IS_ID = re.compile(rf"{_ID}\w*")
_HAS_ID = re.compile(rf"(?<![A-Za-z0-9]){_ID}")
#: Such names in lower case, or letters by which they and ids could hide: escapes, other encodings,
#: and the two that stand for an `s` and a `k` where a server compares names without regard to case.
_MARKS = (
    b'_id"',
    b'_ids"',
    b'"audio"',
    b'"voice"',
    b'"consent"',
    b'"container"',
    b'"conversation"',
    b'"file"',
    b'"files"',
    b'"training_file"',
    b'"validation_file"',
    b"\\u",
    b"\0",
    b"\xc5\xbf",
    b"\xe2\x84\xaa",
)
#: Bytes of a body that takes long to look through, where it is all fields.
_LONG = 256 << 10
_ID_IN_BYTES = re.compile(_ID.encode())
#: What every id has in it: found sooner than one, and seldom there in a picture's base64.
_ENDS_AN_ID = re.compile(rb"[-_][a-z0-9]{16}")


def may_name(body: bytes) -> bool:
    """Say whether a JSON body is worth looking through; where not, it names nothing."""
    low = body.lower()
    if any(mark in low for mark in _MARKS):
        return True
    return _ENDS_AN_ID.search(low) is not None and _ID_IN_BYTES.search(low) is not None


def ids_in(text: str) -> list[str]:
    """Return what looks like an id of OpenAI's in a text."""
    return _HAS_ID.findall(text)


def looks_like_id(text: str) -> bool:
    return _IS_ID.fullmatch(text) is not None


def references(body: Any, *, strict: bool) -> dict[str, str]:
    """Return the ids that a JSON body names, each with the field that it stands in.

    `strict`: every field that is named as an id counts, known or not, and every `id`.
    """
    found: dict[str, str] = {}
    waiting: list[tuple[str, str, Any]] = [("", "", body)]
    while waiting:
        name, parent, value = waiting.pop()
        if isinstance(value, dict):
            free = name == "variables" and parent == "prompt"  # whose names are anybody's words
            fields = (("" if free else key.casefold(), inner) for key, inner in value.items())
            waiting += ((key, name, inner) for key, inner in fields if _matters(key, inner))
        elif isinstance(value, list):
            waiting += ((name, parent, inner) for inner in value)
        elif isinstance(value, str) and _names(name, parent, value, strict):
            found[value] = name
    return found


async def named_in(body: Any, size: int, *, strict: bool) -> dict[str, str]:
    """Return the `references` of a body of `size` bytes; a long one holds nobody else up."""
    look = partial(references, body, strict=strict)
    return await asyncio.to_thread(look) if size > _LONG else look()


def _matters(key: str, inner: Any) -> bool:
    if key == "output":  # what a tool gave back: a text, or parts that may be files
        return isinstance(inner, list | dict)
    return key not in _WORDS and isinstance(inner, str | list | dict)


def _names(name: str, parent: str, value: str, strict: bool) -> bool:
    if name == "skill_id" and value.startswith(_OF_OPENAI):
        return False
    if name in NAMING or (name == "id" and parent in ("audio", "voice")):
        return True
    if name in _TEXTS or name in _NAMELESS:
        return False
    if strict and name == "id":
        return parent not in _ANONYMOUS or looks_like_id(value)
    if strict and name.endswith(("_id", "_ids")):
        return True
    return looks_like_id(value)


def read_once(text: str | bytes) -> Any:
    """Read JSON that every reader reads alike. Raises ValueError where a field is there twice."""
    return json.loads(text, object_pairs_hook=_once)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a field is there twice")
    return found


def fields_of(pairs: Iterable[tuple[str, Any]]) -> list[dict[str, Any]]:
    """Return the fields of a form, `a[b][]` as `{"a": {"b": …}}`, to be looked through."""
    made: list[dict[str, Any]] = []
    for name, value in pairs:
        inner: Any = value
        for step in reversed(name.replace("]", "").split("[")):
            inner = {step: inner} if step else inner
        made.append(inner if isinstance(inner, dict) else {"": inner})
    return made
