"""Puts cut values together again, where all of them are one conversation."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Container

from server.core.archive.json_splitter import LARGEST, JsonSlice


async def gathered(
    cuts: AsyncIterator[JsonSlice], brackets: bytes, keys: Container[str] | None = None
) -> JsonSlice:
    """Return a list's items, or an object's members of these keys, as one value.

    It may be as large as any value.
    """
    pieces: list[bytes] = []
    size, problem = 0, None
    async for cut in cuts:
        if keys is not None and cut.key not in keys:
            continue
        size += len(cut.raw)
        if size > LARGEST:
            problem = f"It is larger than {LARGEST:,} bytes."
        problem = problem or cut.problem
        if problem is not None:
            pieces.clear()
            continue
        name = b"" if cut.key is None else json.dumps(cut.key).encode() + b":"
        pieces.append(name + cut.raw)
    raw = brackets[:1] + b",".join(pieces) + brackets[1:]
    return JsonSlice(None, True, b"" if problem else raw, problem)
