"""What may be typed instead of a question in `trialogue chat`: commands that begin with a slash."""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from clients import history
from clients.web import models, web_of
from clients.websocket_client import Command, ServerRefusedError, Wire, printable, say

#: What is typed, and what it does; the common first.
USAGE: Mapping[str, str] = {
    "/new": "begin another conversation",
    "/open [ID]": "go on with another conversation (the one that was changed last)",
    "/list [WORDS]": "the newest conversations, or those with these words in their titles",
    "/search WORDS": "search messages",
    "/regenerate [MODEL]": "another answer to the last question",
    "/edit [TEXT]": "ask the last question anew; the old one stays as a branch",
    "/branch [N]": "list the branches, or go on with one of them",
    "/model [NAME]": "list the models, or choose who answers from now on",
    "/system [TEXT]": "show the system prompt, or set it",
    "/context": "what would be sent with the next question",
    "/export FILE": "write the conversation to FILE: .md, .json or .jsonl",
    "/help": "this",
    "/quit": "leave; also: exit, Ctrl-D",
}
FORMATS = {".md": "markdown", ".json": "json", ".jsonl": "jsonl"}
SHOWN = 20


class Talking(Protocol):
    """The conversation that commands are about."""

    @property
    def conversation_id(self) -> str: ...
    def open(self, conversation_id: str) -> None: ...
    def ask(self, prompt: str, **how: Any) -> dict[str, Any]: ...
    def regenerate(self, model: str | None = None) -> dict[str, Any]: ...


class Face(Protocol):
    """Where commands show what they find."""

    def opened(self, conversation_id: str, words: list[dict[str, Any]]) -> None: ...
    def last_words(self, messages: list[dict[str, Any]]) -> None: ...
    def ended(self, turn: dict[str, Any]) -> None: ...
    def edit(self, text: str) -> None: ...


class Commands:
    """What may be typed instead of a question."""

    def __init__(self, line: Wire, talk: Talking, chosen: argparse.Namespace, face: Face) -> None:
        self._line = line
        self._talk = talk
        self._chosen = chosen
        self._face = face

    def by_name(self) -> Mapping[str, Command]:
        """Return each command by what is typed for it; those that leave are no commands."""
        names = [usage.split()[0] for usage in USAGE if usage != "/quit"]
        found: dict[str, Command] = {name: getattr(self, f"_{name[1:]}") for name in names}
        return {**found, "/?": self._help}

    def open(self, conversation_id: str) -> None:
        """Go on with a conversation, and show its last words. Raises ServerRefusedError."""
        opened = self._line.call("conversation", conversation_id=conversation_id)
        print(history.row(opened))
        self._face.opened(conversation_id, self._messages(conversation_id, 2))

    def open_if_there(self, conversation_id: str) -> None:
        """Open a conversation where it has begun; it begins with the first question otherwise."""
        try:
            self.open(conversation_id)
        except ServerRefusedError as error:
            if error.code != "not_found":
                raise

    def _help(self, _: str) -> None:
        print("\n".join(f"{usage:<20} {does}" for usage, does in USAGE.items()))

    def _new(self, _: str) -> None:
        self._talk.open("new")
        say("[a new conversation; it begins with your next question]")

    def _open(self, conversation_id: str) -> None:
        self.open(conversation_id or history.last(self._line))

    def _list(self, words: str) -> None:
        for one in history.conversations(self._line, words, SHOWN):
            print(history.row(one))

    def _search(self, words: str) -> None:
        if not words:
            say("[/search WORDS]")
            return
        hits = self._line.call("search", q=words, limit=SHOWN)["data"]
        for hit in hits:
            role = hit["message"]["role"] if hit["message"] else "title"
            print(f"{hit['conversation_id']:<31}  {role}: {short(hit['snippet'])}")
        if not hits:
            say("[nothing was found]")

    def _regenerate(self, model: str) -> None:
        self._begun()
        self._face.ended(self._talk.regenerate(model or None))

    def _edit(self, text: str) -> None:
        """Ask beside the last question of the branch, under what it was asked under."""
        for message in reversed(history.messages(self._line, self._begun())):
            if message["role"] == "user":
                break
        else:
            raise ServerRefusedError("", "Nothing has been asked yet.")
        if not text:
            self._face.edit(history.text_of(message))
            return
        self._face.ended(self._talk.ask(text, parent_id=message["parent_id"] or "root"))

    def _branch(self, number: str) -> None:
        kept = self._kept()
        leaves = branches(kept["messages"])
        if not number:
            for at, leaf in enumerate(leaves[:SHOWN], 1):
                mark = "*" if leaf["id"] == kept["head_id"] else " "
                print(f"{mark}{at:>3}  {leaf['role']}: {short(history.text_of(leaf))}")
            return
        if not (number.isdecimal() and 0 < int(number) <= len(leaves)):
            raise ServerRefusedError("", f"There are {len(leaves)} branches; /branch lists them.")
        leaf_id, conversation_id = leaves[int(number) - 1]["id"], self._talk.conversation_id
        self._line.call("update", conversation_id=conversation_id, head_id=leaf_id)
        self._face.last_words(self._messages(conversation_id, 2))

    def _model(self, name: str) -> None:
        if name:
            self._chosen.model = name
            say(f"[{printable(name)} answers from now on]")
            return
        for one in models(self._chosen):
            print(f"{'*' if one == self._chosen.model else ' '} {printable(one)}")

    def _system(self, text: str) -> None:
        """Show or set it; what has not begun keeps it for its first question."""
        there = {"conversation_id": self._talk.conversation_id}
        prompt = text or self._chosen.system_prompt
        if there["conversation_id"] != "new":
            try:
                changed = there | ({"system_prompt": text} if text else {})
                found = self._line.call("update" if text else "conversation", **changed)
                prompt = found["system_prompt"]
            except ServerRefusedError as error:
                if error.code != "not_found":
                    raise
        if text:
            self._chosen.system_prompt = text
        else:
            print(printable(prompt or "[none]"))

    def _context(self, _: str) -> None:
        asked = {"conversation_id": self._begun(), "prompt": ".", "model": self._chosen.model}
        found = self._line.call("context", **{k: v for k, v in asked.items() if v is not None})
        for one in found["messages"]:
            print(f"{one['tokens']:>8,}  {one['role']:<9}  {one['reason'] or 'kept'}")
        print(
            f"{found['prompt_tokens']:>8,}  of {found['budget']:,} for {found['model']}: "
            f"{found['messages_included']} kept, {found['messages_trimmed']} left out"
        )

    def _export(self, name: str) -> None:
        form = FORMATS.get(Path(name).suffix)
        if form is None:
            raise ServerRefusedError("", f"/export FILE, which ends in {', '.join(FORMATS)}.")
        try:
            with Path(name).expanduser().open("xb") as file:
                file.write(self._exported(form))
        except OSError as error:
            raise ServerRefusedError("", f"{name}: {error.strerror}.") from None
        say(f"[written to {name}]")

    def _kept(self) -> dict[str, Any]:
        """Return the conversation with all messages of it, whatever their branch."""
        (whole,) = json.loads(self._exported("json"))["conversations"]
        return dict(whole)

    def _exported(self, form: str) -> bytes:
        path = f"/conversations/{quote(self._begun(), safe=':~')}/export"
        with web_of(self._chosen).open("GET", path, {"format": form}) as response:
            return response.read()

    def _messages(self, conversation_id: str, most: int) -> list[dict[str, Any]]:
        fields = {"conversation_id": conversation_id, "limit": most}
        return list(self._line.call("messages", **fields)["data"])

    def _begun(self) -> str:
        if self._talk.conversation_id == "new":
            raise ServerRefusedError("", "The conversation begins with your first question.")
        return self._talk.conversation_id


def branches(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the last message of each branch, the newest first."""
    parents = {one["parent_id"] for one in messages}
    leaves = [one for one in messages if one["id"] not in parents]
    return sorted(leaves, key=lambda one: str(one["created_at"]), reverse=True)


def short(text: str) -> str:
    """Return the beginning of a text, on one line."""
    return textwrap.shorten(printable(text), 100, placeholder="…")
