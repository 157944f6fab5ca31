"""An answer as it is written, rendered: Markdown block by block, thoughts dimmed, calls named."""

from __future__ import annotations

import io
from typing import Any

from markdown_it import MarkdownIt
from rich.console import Console, RenderableType
from rich.markdown import Markdown
from rich.text import Text

from clients.websocket_client import Beside, printable, reading

_MARKDOWN = MarkdownIt().enable("strikethrough").enable("table")


def rendered(what: RenderableType, width: int) -> str:
    """Return something as the characters that a terminal shows it by."""
    console = Console(file=io.StringIO(), force_terminal=True, width=width, highlight=False)
    with console.capture() as captured:
        console.print(what)
    return "\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n"


def markdown(text: str) -> Markdown:
    # A link is shown with where it goes to, so that none can pretend.
    return Markdown(printable(text), code_theme="ansi_dark", hyperlinks=False)


def dim(text: str) -> Text:
    return Text(printable(text), style="dim")


def last_block(text: str) -> int:
    """Return where the last block of a Markdown text begins: those before it will not change."""
    lines = text[: text.rfind("\n") + 1]  # a line that is not whole may turn into anything
    begins = [one.map[0] for one in _MARKDOWN.parse(lines) if one.level == 0 and one.map]
    if not begins:
        return 0
    return sum(map(len, lines.splitlines(keepends=True)[: begins[-1]]))


class Answer:
    """What is shown of a turn: pieces that are done, and the rest, which still changes."""

    def __init__(self, turn_id: str) -> None:
        self.turn_id = turn_id
        self._beside = Beside()
        self._part: dict[str, Any] = {}
        self._rest = ""
        self._reading = ""

    def reads(self, event: dict[str, Any]) -> None:
        """Take in how far the prompt is read, which is shown until there is an answer."""
        self._reading = f"[{reading(event)}]"

    def add(self, event: dict[str, Any]) -> list[RenderableType]:
        """Take a delta in; return the pieces that are done by it."""
        self._reading = ""
        part = event.get("part") or {"type": "text"}
        done = [] if part.get("index") == self._part.get("index") else self._end_part()
        self._part = part
        done += map(dim, self._beside.add(event))
        self._rest += event["text"] if part["type"] == "text" else event.get("delta") or ""
        return done + self._settled()

    def end(self) -> list[RenderableType]:
        """Return the last pieces."""
        self._reading = ""
        return self._end_part() + list(map(dim, self._beside.end()))

    def tail(self) -> RenderableType | None:
        """Return what still changes; None where there is nothing."""
        return dim(self._reading) if self._reading else self._shown(self._rest)

    def _settled(self) -> list[RenderableType]:
        at = last_block(self._rest) if self._part["type"] == "text" else 0
        done, self._rest = self._shown(self._rest[:at]), self._rest[at:]
        return [] if done is None else [done]

    def _end_part(self) -> list[RenderableType]:
        rest, self._rest = self._shown(self._rest), ""
        return [] if rest is None else [rest]

    def _shown(self, text: str) -> RenderableType | None:
        """Return a text of the present part, as that is shown; calls come whole."""
        match self._part.get("type"):
            case "text" if text.strip():
                return markdown(text)
            case "reasoning" if text.strip():
                return dim(text.rstrip("\n"))
        return None
