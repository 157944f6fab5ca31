"""Conversations in a terminal: `trialogue list`, `show`, `rm`, `open`, and `models`."""

from __future__ import annotations

import argparse
import json
import os
import sys
import webbrowser
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import quote

from clients.web import base, models
from clients.websocket_client import LINES, ServerRefusedError, Wire, printable, say
from clients.wires import add_server, using

LAST = "go on with the last conversation: of the 100 newest, the one that was changed last"
#: What a page of a list may hold at most.
PAGE = 100


def last(line: Wire) -> str:
    """Return the conversation that was changed last. Raises ServerRefusedError if there is none."""
    found = line.call("conversations", limit=PAGE)["data"]
    if not found:
        raise ServerRefusedError("", "There is no conversation yet to go on with.")
    newest: dict[str, Any] = max(found, key=lambda one: one["updated_at"])
    return str(newest["id"])


def conversations(line: Wire, words: str, most: int) -> Iterator[dict[str, Any]]:
    """Yield conversations, newest first; with `words` those in whose titles they are."""
    asked: dict[str, Any] = {"q": words} if words else {}
    while most > 0:
        page = line.call("conversations", limit=min(most, PAGE), **asked)
        yield from page["data"]
        most -= len(page["data"])
        if not page["has_more"]:
            return
        asked["after"] = page["last_id"]


def messages(line: Wire, conversation_id: str) -> list[dict[str, Any]]:
    """Return the messages of a conversation's present branch, oldest first."""
    pages: list[list[dict[str, Any]]] = []
    asked: dict[str, Any] = {"conversation_id": conversation_id, "limit": PAGE}
    while True:
        page = line.call("messages", **asked)
        pages.append(page["data"])
        if not page["has_more"]:
            return [one for page_of in reversed(pages) for one in page_of]
        asked["before"] = page["first_id"]


def text_of(message: dict[str, Any]) -> str:
    """Return a message's text; a line for a call of a tool, a word for an image."""
    content = message.get("parts") or message["content"]
    if isinstance(content, str):
        return content
    return "\n".join(filter(None, map(_part, content)))


def _part(part: dict[str, Any]) -> str:
    """Return what a part says; its kind alone, where an imported file said no more of it."""
    match part:
        case {"type": "text", "text": str(said)} | {"type": "refusal", "refusal": str(said)}:
            return said
        case {"type": "reasoning"}:
            return ""
        case {"type": "function", "function": {"name": str(name), **called}} | {
            "type": "custom",
            "custom": {"name": str(name), **called},
        }:
            given = called.get("arguments") or called.get("input") or ""
            return LINES["tool_call"].format(name=name, said=given)
        case {"type": "tool_result", "text": str(said)}:
            return LINES["tool_result"].format(said=said)
    return f"[{part.get('type')}]"


def row(conversation: dict[str, Any]) -> str:
    """Return a conversation on one line."""
    title = printable(" ".join((conversation["title"] or "").split()))
    return f"{conversation['id']:<31}  {conversation['updated_at'][:16].replace('T', ' ')}  {title}"


def address(url: str, wire: str, conversation_id: str) -> str:
    """Return where the page shows a conversation, of the server that a wire's URL names."""
    return f"{base(url, wire)}/#{quote(conversation_id, safe='~:')}"


def print_list(line: Wire, chosen: argparse.Namespace) -> int:
    for one in conversations(line, " ".join(chosen.words), chosen.limit):
        print(json.dumps(one, ensure_ascii=False) if chosen.json else row(one))
    return 0


def print_messages(line: Wire, chosen: argparse.Namespace) -> int:
    for message in messages(line, chosen.conversation_id or last(line)):
        if chosen.json:
            print(json.dumps(message, ensure_ascii=False))
        else:
            text = text_of(message)
            print(f"{message['role']}:\n{printable(text) if sys.stdout.isatty() else text}\n")
    return 0


def delete(line: Wire, chosen: argparse.Namespace) -> int:
    for conversation_id in chosen.conversation_ids:
        line.call("delete", conversation_id=conversation_id)
        say(f"[deleted {conversation_id}]")
    return 0


def open_page(line: Wire, chosen: argparse.Namespace) -> int:
    """Print the address of a conversation, and show it where there is a browser for it."""
    conversation_id = chosen.conversation_id or last(line)
    line.call("conversation", conversation_id=conversation_id)  # or it is said that it is not there
    where = address(chosen.url, chosen.wire, conversation_id)
    print(where)
    if sys.stdout.isatty() and (os.environ.get("DISPLAY") or sys.platform in ("darwin", "win32")):
        webbrowser.open(where)
    return 0


def print_models(_: Wire, chosen: argparse.Namespace) -> int:
    for name in models(chosen):
        print(printable(name))
    return 0


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def _one(arguments: argparse.ArgumentParser) -> None:
    told = "the conversation (of the 100 newest, the one that was changed last)"
    arguments.add_argument("conversation_id", nargs="?", metavar="ID", help=told)


def _list(arguments: argparse.ArgumentParser) -> None:
    add = arguments.add_argument
    add("words", nargs="*", metavar="WORD", help="only those in whose titles they are")
    add("-n", "--limit", type=_count, default=20, metavar="N", help="at most so many (20)")
    add("--json", action="store_true", help="one JSON object a line")


def _show(arguments: argparse.ArgumentParser) -> None:
    _one(arguments)
    arguments.add_argument("--json", action="store_true", help="one JSON object a line")


def _rm(arguments: argparse.ArgumentParser) -> None:
    arguments.add_argument("conversation_ids", nargs="+", metavar="ID")


def _open(arguments: argparse.ArgumentParser) -> None:
    _one(arguments)
    arguments.epilog = (
        "The page is at --url where that is of REST or ends in /ws, or else on the host of --url "
        "at the port TRIALOGUE_HTTP_PORT (8000). A browser is started in a terminal that has a "
        "screen."
    )


Use = Callable[[Wire, argparse.Namespace], int]
COMMANDS: dict[str, tuple[str, Callable[[argparse.ArgumentParser], None], Use]] = {
    "list": ("list conversations, newest first", _list, print_list),
    "show": ("print the messages of a conversation", _show, print_messages),
    "rm": ("delete conversations, for good", _rm, delete),
    "models": ("list the models that the server offers", lambda _: None, print_models),
    "open": ("print where the page shows a conversation, and open it", _open, open_page),
}


def main(command: str, arguments: Sequence[str] | None = None) -> int:
    """Run one of the commands; return its exit code."""
    does, add, use = COMMANDS[command]
    words = argparse.ArgumentParser(
        prog=f"trialogue {command}", description=f"{does[0].upper()}{does[1:]}."
    )
    add(words)
    add_server(words)
    chosen = words.parse_args(arguments)
    return using(chosen, lambda line: use(line, chosen))
