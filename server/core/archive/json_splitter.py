"""Cuts a stream of JSON into the values of its outermost list or object, without reading them."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass

#: A value may be so large and so deep; one that is more is passed over.
LARGEST = 64 << 20
DEEPEST = 200
#: Lists under these keys of the outermost object are cut too.
OPENED = frozenset({"conversations"})

#: Bytes looked at in one step; it bounds what matching a string of escapes takes.
_BLOCK = 1 << 16
_BOM = b"\xef\xbb\xbf"
_SPACE = re.compile(rb"[ \t\r\n]*")
_SCALAR = re.compile(rb"[-+.0-9A-Za-z]*")
_IN_STRING = re.compile(rb'[^"\\]*(?:\\.[^"\\]*)*', re.DOTALL)
#: A whole string, the beginning of one, or a bracket.
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|["\[\]{}]', re.DOTALL)
_QUOTE, _COMMA, _COLON = b'",:'
_LIST, _LIST_END, _OBJECT, _OBJECT_END = b"[]{}"


class BrokenError(Exception):
    """What came is no JSON from some byte on."""


@dataclass(frozen=True, slots=True)
class JsonSlice:
    """One value, as JSON: a member of the outermost object, or `listed` in a list.

    `key` is the member's, or the list's; None in an outermost list. `problem` says why there is
    no `raw`.
    """

    key: str | None
    listed: bool
    raw: bytes
    problem: str | None = None


async def cuts(
    chunks: AsyncIterator[bytes], *, largest: int = LARGEST
) -> AsyncGenerator[JsonSlice, None]:
    """Yield the values of the outermost list or object. Raises BrokenError where the JSON ends."""
    text = _StringState(chunks, largest)
    await text.skip_mark()
    match await text.peek():
        case start if start == _LIST:
            async for _ in text.each(_LIST_END):
                yield await text.cut(None, listed=True)
        case start if start == _OBJECT:
            async for _ in text.each(_OBJECT_END):
                key = await text.key()
                if key not in OPENED or await text.peek() != _LIST:
                    yield await text.cut(key, listed=False)
                    continue
                async for _ in text.each(_LIST_END):
                    yield await text.cut(key, listed=True)
        case _:
            raise text.broken()
    if await text.peek():
        raise text.broken()


class _StringState:
    """A position in JSON that comes in pieces; holds one block, and the value that is being cut."""

    def __init__(self, chunks: AsyncIterator[bytes], largest: int) -> None:
        self._chunks = chunks
        self._largest = largest
        self._chunk = b""
        self._taken = 0
        self._block = b""
        self._at = 0
        self._before = 0
        self._depth = 0
        self._deepest = 0
        self._in_string = False

    def broken(self) -> BrokenError:
        return BrokenError(f"The JSON breaks at byte {self._before + self._at}.")

    async def skip_mark(self) -> None:
        """Pass over a byte order mark, which some editors put before JSON."""
        while len(self._block) < len(_BOM) and await self._more():
            pass
        if self._block.startswith(_BOM):
            self._at = len(_BOM)

    async def peek(self) -> int:
        """Return the next byte that is not white space; 0 at the end."""
        while True:
            space = _SPACE.match(self._block, self._at)
            self._at = space.end() if space else self._at
            if self._at < len(self._block):
                return self._block[self._at]
            if not await self._more():
                return 0

    async def each(self, end: int) -> AsyncIterator[None]:
        """Pass over a list's or object's own brackets and commas, and stop before each value."""
        self._at += 1
        if await self.peek() == end:
            self._at += 1
            return
        while True:
            yield
            follows = await self.peek()
            if follows not in (_COMMA, end):
                raise self.broken()
            self._at += 1
            if follows == end:
                return

    async def key(self) -> str:
        """Read the key of a member, and the colon behind it."""
        if await self.peek() != _QUOTE:
            raise self.broken()
        cut = await self.cut(None, listed=False)
        if await self.peek() != _COLON:
            raise self.broken()
        self._at += 1
        try:
            return str(json.loads(cut.raw, strict=False))
        except ValueError:
            raise self.broken() from None

    async def cut(self, key: str | None, *, listed: bool) -> JsonSlice:
        """Cut the value that begins here, from its first byte to its last."""
        start = await self.peek()
        self._depth = self._deepest = 0
        self._in_string = start == _QUOTE
        if start not in (_LIST, _OBJECT, _QUOTE):
            return JsonSlice(key, listed, await self._scalar())
        pieces, size, begun, ended = [b""], 0, self._at, False
        self._at += self._in_string
        while not ended:
            ended = self._pass()
            size += self._at - begun
            if size <= self._largest and self._deepest <= DEEPEST:
                pieces.append(self._block[begun : self._at])
            else:
                pieces.clear()
            if not ended and not await self._more():
                raise BrokenError("The JSON ends in the middle.")
            begun = self._at
        return JsonSlice(key, listed, b"".join(pieces), self._problem(size))

    async def _scalar(self) -> bytes:
        """Read a number or a word, which may go on in the next block."""
        found = b""
        while True:
            match = _SCALAR.match(self._block, self._at)
            found += match[0] if match else b""
            self._at = match.end() if match else self._at
            if self._at < len(self._block) or len(found) > _BLOCK:
                break
            if not await self._more():
                raise BrokenError("The JSON ends in the middle.")
        if not found or len(found) > _BLOCK:
            raise self.broken()
        return found

    def _problem(self, size: int) -> str | None:
        if self._deepest > DEEPEST:
            return f"It is nested deeper than {DEEPEST} levels."
        return f"It is larger than {self._largest:,} bytes." if size > self._largest else None

    def _pass(self) -> bool:
        """Pass over the block as far as the value goes, and say whether it ends in it."""
        if self._in_string:
            if not self._end_string():
                return False
            if not self._depth:
                return True
        for token in _TOKEN.finditer(self._block, self._at):
            kind, self._at = self._block[token.start()], token.end()
            if kind in (_LIST, _OBJECT):
                self._depth += 1
                self._deepest = max(self._deepest, self._depth)
            elif kind != _QUOTE:
                self._depth -= 1
                if self._depth == 0:
                    return True
            elif token.end() == token.start() + 1:
                self._in_string = True
                self._end_string()
                return False
        self._at = len(self._block)
        return False

    def _end_string(self) -> bool:
        """Go on to the end of a string; a backslash that ends the block stays for the next."""
        match = _IN_STRING.match(self._block, self._at)
        self._at = match.end() if match else self._at
        self._in_string = self._block[self._at : self._at + 1] != b'"'
        self._at += not self._in_string
        return not self._in_string

    async def _more(self) -> bool:
        """Put the next block behind what of this one was not passed yet."""
        while self._taken >= len(self._chunk):
            chunk = await anext(self._chunks, None)
            if chunk is None:
                return False
            self._chunk, self._taken = chunk, 0
        rest = self._block[self._at :]
        self._before += self._at
        self._block = rest + self._chunk[self._taken : self._taken + _BLOCK]
        self._taken += _BLOCK
        self._at = 0
        return True
