"""A conversation that is read along in one thread, whoever asks in it, and asked in by another."""

from __future__ import annotations

import argparse
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from clients import wires
from clients.live.errands import Errands
from clients.websocket_client import LeftError, ServerRefusedError, Talk, refused

Tell = Callable[[dict[str, Any]], None]


@dataclass
class Place:
    """A conversation, whose id is `new` until its first question is answered."""

    conversation_id: str
    watched: bool = False


@dataclass
class Asked:
    """What was asked here, and where; no prompt, where it was another answer."""

    prompt: str | None
    place: Place


class Watching:
    """The thread that reads a conversation along, from a turn's beginning, until it is left."""

    def __init__(self, chosen: argparse.Namespace, turn_id: str, tell: Tell) -> None:
        self._wire = wires.dial(chosen, known=True)
        self._talk = Talk(self._wire, chosen, self._hear)
        self._tell = tell
        self._left = False
        threading.Thread(target=self._read, args=(turn_id,), daemon=True).start()

    def leave(self) -> None:
        self._left = True
        self._wire.leave()

    def _hear(self, event: dict[str, Any]) -> None:
        if not self._left:
            self._tell(event)

    def _read(self, turn_id: str) -> None:
        with closing(self._wire):
            try:
                self._talk.watch(turn_id)
            except LeftError:
                return
            except ServerRefusedError as error:
                if not self._left:
                    refused(error)


class LiveTalk:
    """The conversation of a screen. All that is shown of it is what its watcher hears.

    An ask is over for who asked when its turn has begun: the watcher hears the rest.
    """

    def __init__(self, chosen: argparse.Namespace, tell: Tell) -> None:
        self._chosen = chosen
        self._tell = tell
        self._place = Place(chosen.conversation_id or "new")
        self._watching: Watching | None = None
        self._asking = Errands()
        #: what was asked here and may not have begun
        self.asked: list[Asked] = []
        self._begun: set[str] = set()

    @property
    def conversation_id(self) -> str:
        return self._place.conversation_id

    def open(self, conversation_id: str, turn_id: str = "") -> None:
        """Go on with a conversation, reading it from a turn's beginning, or begin a new one."""
        if self._watching is not None:
            self._watching.leave()
            self._watching = None
        self.asked = []
        self._place = Place(conversation_id)
        if conversation_id != "new":
            self._watch(self._place, turn_id)

    def ask(self, prompt: str, **how: Any) -> dict[str, Any]:
        return self._begin(prompt, lambda talk: talk.ask(prompt, **how))

    def regenerate(self, model: str | None = None) -> dict[str, Any]:
        return self._begin(None, lambda talk: talk.regenerate(model))

    def is_ours(self, turn_id: str, question: str) -> bool:
        """Say whether a turn was asked here. Its watcher may hear of it before its asker does."""
        waiting = any(one.prompt in (None, question) for one in self.asked)
        return waiting or turn_id in self._begun

    def _begin(self, prompt: str | None, begin: Callable[[Talk], dict[str, Any]]) -> dict[str, Any]:
        asked = Asked(prompt, self._place)
        self.asked.append(asked)
        self._asking.give(lambda: self._carry(asked, begin))
        return {}

    def _carry(self, asked: Asked, begin: Callable[[Talk], dict[str, Any]]) -> None:
        place = asked.place
        system = None if place.watched else self._chosen.system_prompt
        chosen = self._about(place, system_prompt=system)
        with closing(wires.dial(chosen, known=True)) as wire:
            try:
                turn = begin(Talk(wire, chosen, lambda _: None, "turn.started"))
                self._begun.add(turn["id"])
            except ServerRefusedError as error:
                refused(error)
                return
            finally:
                self.asked = [one for one in self.asked if one is not asked]
        place.conversation_id = turn["conversation_id"]
        if place is self._place and not place.watched:
            self._watch(place, turn["id"])

    def _watch(self, place: Place, turn_id: str) -> None:
        place.watched = True
        self._watching = Watching(self._about(place), turn_id, self._tell)

    def _about(self, place: Place, **other: Any) -> argparse.Namespace:
        """Return the flags as they are for this conversation."""
        about = {"conversation_id": place.conversation_id, "watch": False}
        return argparse.Namespace(**{**vars(self._chosen), **about, **other})
