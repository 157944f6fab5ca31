"""ChatGPT's conversations.json: a tree of nodes for each conversation."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from server.core import validation
from server.core.archive.chatgpt_content import count_beside, text_in
from server.core.archive.chatgpt_tree import in_order
from server.core.archive.fields import moment
from server.core.archive.json_splitter import JsonSlice
from server.core.archive.new_ids import derived, fits
from server.core.archive.reassemble import gathered
from server.core.archive.records import At, Found
from server.core.errors import InvalidRequestError
from storage.model import Conversation, Message, Role

_ROLES = {role.value: role for role in Role} | {"developer": Role.SYSTEM, "function": Role.TOOL}
#: What the user or ChatGPT wrote down for every conversation; somebody else's role is on it.
_CONTEXT = ("user_editable_context", "model_editable_context")
_KEPT = ("gizmo_id", "default_model_slug", "is_archived")
#: What of a lone conversation is looked at.
_MEMBERS = {
    *("mapping", "current_node", "title", "create_time", "update_time", "conversation_id", "id"),
    *_KEPT,
}
#: The year 10000, in seconds: no time in a file is later.
_LATEST = 253_402_300_800


def claims(cut: JsonSlice) -> bool:
    """Say whether a list with this in it is ChatGPT's."""
    return cut.key is None and cut.raw.startswith(b"{") and b'"mapping"' in cut.raw


def claims_alone(cut: JsonSlice) -> bool:
    """Say whether an object with this member is one conversation of ChatGPT's."""
    return cut.key == "mapping" and cut.raw.startswith(b"{")


async def items(cuts: AsyncIterator[JsonSlice]) -> AsyncIterator[JsonSlice]:
    async for cut in cuts:
        yield cut


async def alone(cuts: AsyncIterator[JsonSlice]) -> AsyncIterator[JsonSlice]:
    """Yield the one conversation whose members these are."""
    yield await gathered(cuts, b"{}", _MEMBERS)


def interpret(value: Any, at: At) -> Found:
    """Read a conversation with all its branches; what cannot be kept is counted."""
    match value:
        case {"mapping": dict(mapping)}:
            return _Tree(value, mapping, at).found()
    raise InvalidRequestError("mapping must be an object of nodes.", "mapping")


class _Tree:
    """One conversation while it is read."""

    def __init__(self, value: dict[str, Any], mapping: dict[str, Any], at: At) -> None:
        self._value = value
        self._mapping = mapping
        self._at = at
        self._dropped: Counter[str] = Counter()
        self._ids: set[str] = set()
        self._messages: list[Message] = []
        #: the nearest message that is kept, at a node or above it
        self._nearest: dict[str | None, Message | None] = {None: None}

    def found(self) -> Found:
        order = in_order(self._mapping, self._dropped)
        first = self._time(self._value.get("create_time")) or self._earliest()
        self._created = first if first is not None else self._at.now
        self._id = self._conversation_id([node_id for node_id, _ in order[:3]])
        for node_id, parent in order:
            above = self._nearest[parent]
            message = self._message(node_id, above)
            if message is not None:
                self._messages.append(message)
            self._nearest[node_id] = message or above
        told = self._conversation()
        return Found(self._at.index, told, self._messages, (), +self._dropped, foreign=True)

    def _conversation_id(self, first: Sequence[str]) -> str:
        """Return ChatGPT's id, or one that the same conversation always gets."""
        for key in ("conversation_id", "id"):
            if isinstance(told := self._value.get(key), str) and fits(told):
                return told
        self._dropped["conversation_id"] += "id" in self._value or "conversation_id" in self._value
        words = [str(self._value.get(key)) for key in ("conversation_id", "id", "create_time")]
        return derived("conv", *words, *first)

    def _conversation(self) -> Conversation:
        latest = max((m.created_at for m in self._messages), default=self._created)
        updated = self._time(self._value.get("update_time"))
        head = self._head()
        return Conversation(
            id=self._id,
            title=self._title(),
            system_prompt=None,
            model=None,
            metadata=self._metadata(),
            created_at=self._created,
            updated_at=latest if updated is None else updated,
            message_count=len(self._messages),
            head_id=head.id if head else None,
        )

    def _head(self) -> Message | None:
        """Return the message at `current_node`, or what was said last."""
        current = self._value.get("current_node")
        if isinstance(current, str) and current in self._nearest:
            if (head := self._nearest[current]) is not None:
                return head
        elif current is not None:
            self._dropped["current_node"] += 1
        return max(reversed(self._messages), key=lambda m: m.created_at, default=None)

    def _title(self) -> str:
        title = self._value.get("title")
        if not isinstance(title, str) or not title.strip():
            asked = (m.content for m in self._messages if m.role is Role.USER)
            return validation.title_of(next(asked, ""))
        if len(title) > validation.LONGEST_TITLE:
            self._dropped["title"] += 1
            return title[: validation.LONGEST_TITLE - 1] + "…"
        return title

    def _metadata(self) -> Mapping[str, Any]:
        kept = {key: self._value[key] for key in _KEPT if self._value.get(key) is not None}
        try:
            return validation.metadata({"chatgpt": kept} if kept else {})
        except InvalidRequestError:
            self._dropped["metadata"] += 1
            return {}

    def _message(self, node_id: str, above: Message | None) -> Message | None:
        """Read the message of a node; None where it has none, or one without any text."""
        match self._mapping[node_id]:
            case {"message": dict(said)}:
                return self._said(node_id, said, above)
            case {"message": None} | {"id": _}:
                return None
        self._dropped["node"] += 1
        return None

    def _said(self, node_id: str, said: dict[str, Any], above: Message | None) -> Message | None:
        count_beside(said, self._dropped)
        text = text_in(said.get("content"), self._dropped) or _instructions(said)
        if not text:
            return None
        role = self._role(said)
        created = self._time(said.get("create_time"))
        if created is None:
            created = above.created_at if above else self._created
        return Message(
            id=self._message_id(said.get("id"), node_id),
            conversation_id=self._id,
            parent_id=above.id if above else None,
            role=role,
            content=text,
            tokens=0,
            encoding="",
            model=self._model(said) if role is Role.ASSISTANT else None,
            turn_id=None,
            created_at=created,
        )

    def _message_id(self, told: Any, node_id: str) -> str:
        """Return the message's own id, else its node's, else one made of both."""
        own = [
            id_
            for id_ in (told, node_id)
            if isinstance(id_, str) and id_ not in self._ids and fits(id_)
        ]
        id_ = own[0] if own else derived("msg", self._id, node_id)
        while id_ in self._ids:
            id_ = derived("msg", id_)
        self._dropped["message_id"] += told is not None and id_ != told
        self._ids.add(id_)
        return id_

    def _role(self, said: dict[str, Any]) -> Role:
        match said:
            case {"content": {"content_type": kind}} if kind in _CONTEXT:
                return Role.SYSTEM
            case {"author": {"role": str(name)}} if name in _ROLES:
                return _ROLES[name]
        self._dropped["role"] += 1
        return Role.TOOL

    def _model(self, said: dict[str, Any]) -> str | None:
        match said:
            case {"metadata": {"model_slug": str(slug)}} if slug:
                try:
                    return validation.name(slug, "model_slug")
                except InvalidRequestError:
                    self._dropped["model"] += 1
        return None

    def _earliest(self) -> int | None:
        times = [
            self._time(node["message"].get("create_time"), count=False)
            for node in self._mapping.values()
            if isinstance(node, dict) and isinstance(node.get("message"), dict)
        ]
        return min((time for time in times if time is not None), default=None)

    def _time(self, told: Any, *, count: bool = True) -> int | None:
        """Return seconds, or RFC 3339, as microseconds since 1970."""
        time = None
        if isinstance(told, str):
            time = moment(told)
        elif type(told) in (int, float) and 0 <= told < _LATEST:
            time = round(told * 1_000_000)
        self._dropped["time"] += count and told is not None and time is None
        return time


def _instructions(said: Mapping[str, Any]) -> str:
    """Return custom instructions, which older exports keep beside an empty message."""
    match said:
        case {"metadata": {"user_context_message_data": dict(data)}}:
            return "\n".join(text for text in data.values() if isinstance(text, str) and text)
    return ""
