"""Talking in a terminal, with commands that begin with a slash: `trialogue chat`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

from clients import history, websocket_client
from clients.websocket_client import Command, Connection, Talk, say

HELP = """\
/new           begin another conversation
/open [ID]     go on with another conversation (the one that was changed last)
/list [WORDS]  the newest conversations, or those with these words in their titles
/search WORDS  search messages
/help          this
/quit          leave; also: exit, Ctrl-D"""
SHOWN = 20


class Commands:
    """What may be typed instead of a question."""

    def __init__(self, line: Connection, talk: Talk) -> None:
        self._line = line
        self._talk = talk

    def by_name(self) -> Mapping[str, Command]:
        """Return each command by what is typed for it."""
        return {
            "/help": lambda _: print(HELP),
            "/?": lambda _: print(HELP),
            "/new": self._new,
            "/open": self._open,
            "/list": self._list,
            "/search": self._search,
        }

    def _new(self, _: str) -> None:
        self._talk.open("new")
        say("[a new conversation; it begins with your next question]")

    def _open(self, conversation_id: str) -> None:
        conversation_id = conversation_id or history.last(self._line)
        opened = self._line.call("conversation", conversation_id=conversation_id)
        self._talk.open(conversation_id)
        print(history.row(opened))

    def _list(self, words: str) -> None:
        for one in history.conversations(self._line, words, SHOWN):
            print(history.row(one))

    def _search(self, words: str) -> None:
        if not words:
            say("[/search WORDS]")
            return
        hits = self._line.call("search", q=words, limit=SHOWN)["data"]
        for hit in hits:
            snippet = history.printable(" ".join(hit["snippet"].split()))
            print(f"{hit['conversation_id']:<31}  {hit['message']['role']}: {snippet}")
        if not hits:
            say("[nothing was found]")


def main(arguments: Sequence[str] | None = None, prog: str = "trialogue chat") -> int:
    chosen: argparse.Namespace = websocket_client.read_flags(prog, arguments)
    return websocket_client.talk(chosen, lambda line, talk: Commands(line, talk).by_name())
