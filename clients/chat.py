"""Talking in a terminal: `trialogue chat`, with all that one can show, or plainly."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from clients import history, websocket_client, wires
from clients.commands import Commands
from clients.websocket_client import Talk, Wire, printable, say

#: What the extra `terminal` brings.
PACKAGES = ("prompt_toolkit", "rich")


class PlainFace:
    """Shows what commands find as lines of text."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk

    def opened(self, conversation_id: str, words: list[dict[str, Any]]) -> None:
        self.last_words(words)
        self._talk.open(conversation_id)

    def last_words(self, messages: list[dict[str, Any]]) -> None:
        for message in messages:
            print(f"{message['role']}: {printable(history.text_of(message))}")

    def ended(self, turn: dict[str, Any]) -> None:
        websocket_client.tell_end(turn)

    def edit(self, text: str) -> None:
        print(printable(text))
        say("[/edit TEXT asks this anew, in other words]")


def plain(line: Wire, chosen: argparse.Namespace) -> int:
    """Talk line by line, as in a pipe or in a terminal that can do no more."""
    talk = Talk(line, chosen)
    commands = Commands(line, talk, chosen, PlainFace(talk))
    if chosen.conversation_id and sys.stdin.isatty():
        websocket_client.attempt(lambda: commands.open_if_there(chosen.conversation_id))
    return websocket_client.converse(talk, commands.by_name())


def is_able() -> bool:
    """Say whether somebody is there, at a terminal that can do more than show lines."""
    terminals = sys.stdin.isatty() and sys.stdout.isatty() and sys.stderr.isatty()
    if not terminals or os.environ.get("TERM", "dumb") in ("dumb", "unknown"):
        return False
    return all(find_spec(name) for name in PACKAGES)


def talk(line: Wire, chosen: argparse.Namespace) -> int:
    """Talk as the flags say; return the exit code."""
    done = websocket_client.talk(line, chosen)
    if done is not None:
        return done
    if not is_able():
        return plain(line, chosen)
    from clients.live.chat import chat

    return chat(line, chosen)


def main(arguments: Sequence[str] | None = None, prog: str = "trialogue chat") -> int:
    words = websocket_client.parser(prog, wires.add_server)
    chosen = websocket_client.read_flags(words, arguments)
    return wires.using(chosen, lambda line: talk(line, chosen))
