"""Which bodies are worth looking through is told exactly, and a long one holds nobody up."""

from __future__ import annotations

import asyncio
import re

from hypothesis import example, given
from hypothesis import strategies as st

from server.transports.openai.stored_objects import references

#: What `may_name` means, in one expression that takes seconds with a long body.
MEANT = re.compile(
    rb"_ids?\"|\"(?:audio|voice|consent|container|conversation|files?|training_file|validation_file)\""
    rb"|\\u|\x00|\xc5\xbf|\xe2\x84\xaa|" + references._ID.encode(),
    re.IGNORECASE,
)
PIECES = st.sampled_from(
    (
        *(b'"', b"_id", b"_IDS", b"file", b"Files", b"Audio", b"\\u", b"\\U", b"\0", b"\xc5\xbf"),
        *(b"resp_", b"FILE-", b"fil-", b"-", b"_", b"A" * 15, b"a1", b"b" * 16, b" ", b"\xe2\x84"),
        *(b"\xaa", b"training_file", b"x"),
    )
)


@given(st.lists(PIECES, max_size=8).map(b"".join))
@example(b'{"file_id": 1}')
@example(b"see resp_ABCDEFGHIJKLMNOP")
def test_a_body_may_name_what_its_letters_can(body: bytes) -> None:
    assert references.may_name(body) == (MEANT.search(body) is not None)


async def test_others_go_on_while_a_long_body_is_looked_through() -> None:
    body = {"a": [{"b": "x"}] * 400_000}
    looking = asyncio.create_task(references.named_in(body, 1 << 20, strict=True))
    turns = 0
    while not looking.done():
        await asyncio.sleep(0)
        turns += 1
    assert await looking == {}
    assert turns > 10
