"""Records commands in a pseudo-terminal, and writes them as an animated SVG: a cast for README.md.

What was printed is kept with its time, and shown at that time; the SVG is text, and nothing else.
"""

from __future__ import annotations

import asyncio
import os
import pty
import re
import termios
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from pathlib import Path

COLUMNS, PROMPT = 80, "$ "
#: What is printed within so many seconds of each other is shown at once.
_TICK = 0.1
#: How fast somebody types, how long they read, and how long the end stands before it begins anew.
_TYPING, _READING, _ENDING = 0.05, 1.2, 5.0
#: Nobody is made to wait longer than this for a command's first word.
_STARTING = 0.5
_WIDTH, _LINE, _EDGE = 8.4, 20, 16
_ESCAPE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
_STYLE = (
    "text{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;"
    "fill:#d6deeb;white-space:pre}.typed{fill:#ffffff;font-weight:600}"
)


@dataclass(frozen=True, slots=True)
class Piece:
    """Characters that were typed or printed at once, in seconds from the beginning."""

    at: float
    text: str
    typed: bool = False


async def record(
    commands: Sequence[str], folder: Path, env: Mapping[str, str], shown: Callable[[str], str]
) -> list[Piece]:
    """Run commands one after the other; `shown` says a printed text as readers are to see it."""
    pieces, now = [Piece(0, PROMPT)], _READING
    for command in commands:
        for character in command:
            pieces.append(Piece(now, character, typed=True))
            now += _TYPING
        begun = now = now + 5 * _TYPING
        pieces.append(Piece(now, "\n"))
        first = None
        async for after, text in _run(command, folder, env):
            first = after if first is None else first
            now = begun + min(first, _STARTING) + after - first
            pieces.append(Piece(now, shown(text)))
        now += 2 * _TYPING
        pieces.append(Piece(now, PROMPT))
        now += _READING
    return pieces


async def _run(
    command: str, folder: Path, env: Mapping[str, str]
) -> AsyncIterator[tuple[float, str]]:
    screen, inside = pty.openpty()
    termios.tcsetwinsize(screen, (40, COLUMNS))
    clock = asyncio.get_running_loop().time
    begun = clock()
    shell = await asyncio.create_subprocess_exec(
        *("sh", "-c", command), cwd=folder, env=env, stdin=inside, stdout=inside, stderr=inside
    )
    os.close(inside)
    while piece := await asyncio.to_thread(_read, screen):
        yield clock() - begun, _ESCAPE.sub("", piece).replace("\r\n", "\n")
    os.close(screen)
    if code := await shell.wait():
        raise RuntimeError(f"{command} ended with {code}")


def _read(screen: int) -> str:
    try:
        return os.read(screen, 4096).decode()
    except OSError:  # whoever wrote there has left
        return ""


def text_of(svg: str) -> str:
    """Return what stands on the screen at the end of a cast."""
    lines: dict[int, str] = {}
    for y, said in re.findall(r'<text[^>]* y="(\d+)"[^>]*>([^<]*)', svg):
        lines[int(y)] = lines.get(int(y), "") + said
    return "\n".join(lines[y] for y in sorted(lines))


def svg_of(pieces: Sequence[Piece], title: str) -> str:
    """Return an animated SVG, which begins anew when it has come to its end."""
    height = 2 * _EDGE + _LINE * len("".join(piece.text for piece in pieces).split("\n"))
    width = round(2 * _EDGE + COLUMNS * _WIDTH)
    lasts = pieces[-1].at + _ENDING
    size = f'width="{width}" height="{height}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {width} {height}">',
            f"<title>{escape(title)}</title><style>{_STYLE}</style>",
            f'<rect {size} rx="8" fill="#0b1622">',
            '<animate id="a" attributeName="rx" from="8" to="8" begin="0s;a.end" '
            f'dur="{lasts:.1f}s"/></rect>',
            *_ticks(pieces),
            "</svg>\n",
        ]
    )


def _ticks(pieces: Sequence[Piece]) -> Iterator[str]:
    line = column = 0
    for tick, together in groupby(pieces, lambda piece: round(piece.at / _TICK)):
        texts = []
        for typed, alike in groupby(together, lambda piece: piece.typed):
            said = "".join(piece.text for piece in alike)
            for number, part in enumerate(said.split("\n")):
                line, column = (line + 1, 0) if number else (line, column)
                if part:
                    texts.append(_text(line, column, part, typed=typed))
                    column += len(part)
        if texts:
            begin = f"a.begin+{tick * _TICK:.1f}s"
            shown = f'<set attributeName="visibility" to="visible" begin="{begin}" end="a.end"/>'
            yield f'<g visibility="hidden">{shown}{"".join(texts)}</g>'


def _text(line: int, column: int, said: str, *, typed: bool) -> str:
    x, y = _EDGE + column * _WIDTH, _EDGE + (line + 1) * _LINE - 5
    kind = ' class="typed"' if typed else ""
    long = f'textLength="{len(said) * _WIDTH:.1f}"'
    return f'<text x="{x:.1f}" y="{y}" {long}{kind}>{escape(said)}</text>'
