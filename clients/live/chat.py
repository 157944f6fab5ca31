"""A chat with a prompt that stays: what others ask and what is answered is shown above it."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout, suppress
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from clients import history
from clients.commands import Commands
from clients.live.answer import Answer, dim, markdown, rendered
from clients.live.completion import Words
from clients.live.errands import Errands
from clients.live.screen import MARK, Above, Screen, into
from clients.live.talk import LiveTalk
from clients.web import models
from clients.websocket_client import (
    LostError,
    ServerRefusedError,
    Wire,
    attempt,
    command_in,
    leaves,
    obey,
    printable,
    say,
)

#: How many lines of a question are shown above its answer.
QUESTION_LINES = 12
#: How much of a waiting question a server tells, in characters.
WAITING_LENGTH = 500
ENDS = {"cancelled": "[cancelled]", "interrupted": "[interrupted: the server was stopped]"}


class Chat:
    """What is typed, what is heard, and where both are shown."""

    def __init__(self, line: Wire, chosen: argparse.Namespace) -> None:
        self._events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._hear = into(self._events)
        self._line = line
        self._chosen = chosen
        self._calls = Errands()
        self._talk = LiveTalk(chosen, self._hear)
        self._commands = Commands(line, self._talk, chosen, self)
        self._screen = Screen(
            Words({"/open": self._ids, "/model": self._models, "/regenerate": self._models}),
            self._interrupt,
            self._tail,
        )
        self._answer = Answer("")
        self._waiting: list[dict[str, Any]] = []
        #: the turn that is written for us, until it is stopped
        self._ours = ""
        self._pressed = False

    async def run(self) -> int:
        above = Above(lambda text: self._hear({"type": "print", "text": text}))
        with redirect_stdout(above), redirect_stderr(above):
            showing = asyncio.create_task(self._show_all())
            say("[Ctrl-C stops an answer, Alt-Enter makes a line, exit leaves, /help says more]")
            if self._chosen.conversation_id:
                await self._call(lambda: attempt(self._open_first))
            while (typed := await self._screen.question()) is not None and not leaves(typed):
                self._pressed = False
                await self._take(typed)
            await self._show_rest(showing)
        return 0

    def _open_first(self) -> None:
        self._commands.open_if_there(self._chosen.conversation_id)

    # Face, for commands: called in the thread of calls

    def opened(self, conversation_id: str, words: list[dict[str, Any]]) -> None:
        """Read on from the beginning of the last turn, which shows it, too."""
        turn_id = (words[-1]["turn_id"] if words else None) or ""
        if not turn_id:
            self.last_words(words)
        self._hear({"type": "opened"})
        self._talk.open(conversation_id, turn_id)

    def last_words(self, messages: list[dict[str, Any]]) -> None:
        self._hear({"type": "messages", "messages": messages})

    def ended(self, turn: dict[str, Any]) -> None:
        """Nothing more: the end is heard as every other is."""

    def edit(self, text: str) -> None:
        self._screen.default = f"/edit {text}"

    # What is typed

    async def _take(self, typed: str) -> None:
        if (command := command_in(typed)) is not None:
            await self._call(lambda: obey(self._commands.by_name(), *command))
        elif typed.strip():
            self._talk.ask(typed)

    def _interrupt(self) -> bool:
        """Take Ctrl-C: stop what is written for us, or else take back what is typed, or leave."""
        if stopped := self._ours:
            self._ours, self._pressed = "", True
            self._do(lambda: self._line.send({"type": "cancel", "turn_id": stopped}))
        elif not self._pressed and (waiting := self._waits()):
            fields = {"conversation_id": self._talk.conversation_id, "waiting_id": waiting["id"]}
            self._pressed = True
            self._do(lambda: self._line.call("withdraw", **fields))
        elif self._screen.typed:
            self._screen.clear()
        elif self._pressed:
            return True
        else:
            self._pressed = True
            say("[Ctrl-C again, exit or Ctrl-D leaves]")
        return False

    def _waits(self) -> dict[str, Any] | None:
        """Return the newest question of ours that waits in line."""
        ours = [one.prompt[:WAITING_LENGTH] for one in self._talk.asked if one.prompt is not None]
        return next((one for one in reversed(self._waiting) if one["prompt"] in ours), None)

    def _do(self, errand: Callable[[], object]) -> None:
        """Have an errand of a key done; what hinders it is said."""
        self._calls.give(lambda: attempt(errand))

    async def _call(self, errand: Callable[[], Any]) -> Any:
        return await asyncio.wrap_future(self._calls.give(errand))

    def _ids(self) -> Iterator[tuple[str, str]]:
        yield from self._completed(
            lambda: [
                (one["id"], printable(one["title"] or ""))
                for one in history.conversations(self._line, "", history.PAGE)
            ]
        )

    def _models(self) -> Iterator[tuple[str, str]]:
        yield from self._completed(lambda: [(name, "") for name in models(self._chosen)])

    def _completed(self, errand: Callable[[], list[tuple[str, str]]]) -> Iterator[tuple[str, str]]:
        with suppress(ServerRefusedError, LostError):
            yield from self._calls.give(errand).result()

    # What is heard

    async def _show_all(self) -> None:
        while True:
            await self._show(await self._events.get())
            self._events.task_done()

    async def _show_rest(self, showing: asyncio.Task[None]) -> None:
        await self._events.join()
        showing.cancel()
        await self._above(self._answer.end(), Answer(""))

    async def _show(self, event: dict[str, Any]) -> None:
        match event["type"]:
            case "print":
                await self._screen.show(event["text"])
            case "messages":
                await self._above([shown for one in event["messages"] for shown in _said(one)])
            case "opened":
                self._waiting, self._ours = [], ""
                await self._above(self._answer.end(), Answer(""))
            case "queue.changed":
                self._waiting = event["waiting"]
                await self._above([])
            case "turn.started" if event["turn_id"] != self._answer.turn_id:
                question = await self._question(event["turn"])
                await self._above([*self._answer.end(), *question], Answer(event["turn_id"]))
            case "turn.progress" if event["turn_id"] == self._answer.turn_id:
                self._answer.reads(event)
                await self._above([])
            case "turn.delta":
                await self._above(self._answer.add(event))
            case "turn.ended":
                ended, self._ours = self._answer, ""
                await self._above([*ended.end(), *_end(event["turn"])], Answer(ended.turn_id))

    async def _above(self, pieces: list[RenderableType], answer: Answer | None = None) -> None:
        """Show these above the prompt, and from now on what of an answer still changes."""
        self._answer = answer or self._answer
        width = self._screen.width
        await self._screen.show("".join(rendered(one, width) for one in pieces))

    def _tail(self, width: int) -> str:
        tail = self._answer.tail()
        shown = "" if tail is None else rendered(tail, width)
        if self._waiting:
            shown += rendered(dim(f"[{len(self._waiting)} waiting]"), width)
        return shown

    async def _question(self, turn: dict[str, Any]) -> list[RenderableType]:
        """Return the question of a turn, as it is shown above the answer."""
        asked = {"conversation_id": turn["conversation_id"], "leaf": turn["question_id"]}
        try:
            found = await self._call(lambda: self._line.call("messages", **asked, limit=1))
            text = history.text_of(found["data"][-1]) if found["data"] else ""
        except (ServerRefusedError, LostError):
            text = ""
        self._ours = turn["id"] if self._talk.is_ours(turn["id"], text) else ""
        return [_asked(text, "" if self._ours else turn["wire"] or "")]


def _asked(text: str, wire: str) -> Text:
    lines = printable(text).split("\n")
    more = len(lines) - QUESTION_LINES
    shown = "\n".join(lines[:QUESTION_LINES]) + (f"\n[{more} more lines]" if more > 0 else "")
    mark = f"[asked by {wire}] " if wire else MARK
    return Text.assemble("\n", (mark, "dim" if wire else "bold"), shown, "\n")


def _said(message: dict[str, Any]) -> list[RenderableType]:
    text = history.text_of(message)
    return [markdown(text)] if message["role"] == "assistant" else [_asked(text, "")]


def _end(turn: dict[str, Any]) -> list[RenderableType]:
    """Return what is said at the end of a turn, where that is not well."""
    if turn["status"] == "failed":
        return [dim(f"[failed: {' '.join(turn['error']['message'].split())}]")]
    return [dim(ENDS[turn["status"]])] if turn["status"] in ENDS else []


def chat(line: Wire, chosen: argparse.Namespace) -> int:
    """Talk until somebody leaves; return the exit code."""

    async def run() -> int:
        return await Chat(line, chosen).run()

    return asyncio.run(run())
