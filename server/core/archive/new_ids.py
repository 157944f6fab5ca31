"""Ids in place of those that cannot be ours; the same words give the same id every time."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from hashlib import sha256

from server.core.archive.records import Found
from server.core.errors import InvalidRequestError
from server.core.ids import NEW, check_id


def derived(prefix: str, *words: str) -> str:
    """Return an id that these words always give."""
    told = "\x00".join(words).encode("utf-8", "surrogatepass")
    return f"{prefix}_{sha256(told).hexdigest()[:26]}"


def fits(value: str) -> bool:
    """Say whether a foreign id can stay as it is."""
    try:
        return check_id(value, "id") != NEW
    except InvalidRequestError:
        return False


def renamed(found: Found) -> Found:
    """Give every message an id of its conversation's own: the same one stands elsewhere too."""
    own = {one.id: derived("msg", found.conversation.id, one.id) for one in found.messages}
    messages = [
        replace(one, id=own[one.id], parent_id=one.parent_id and own[one.parent_id])
        for one in found.messages
    ]
    head = found.conversation.head_id
    return replace(
        found,
        conversation=replace(found.conversation, head_id=head and own[head]),
        messages=messages,
        dropped=Counter(found.dropped) + Counter({"message_id": len(messages)}),
    )
