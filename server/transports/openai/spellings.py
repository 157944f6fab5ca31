"""Parameters of older clients, told to upstreams as those know them."""

from __future__ import annotations

from server.core.turns.parameters import OF_LOADING, SPELLINGS
from server.openai_protocol.codec import encode
from server.openai_protocol.fields import Fields


def modern(asked: Fields, body: bytes) -> tuple[Fields, bytes]:
    """Return a request, and its bytes, without spellings that no upstream knows."""
    values = asked.values
    if not any(name in values for name in (*SPELLINGS, *OF_LOADING)):
        return asked, body
    told = {name: value for name, value in values.items() if name not in (*SPELLINGS, *OF_LOADING)}
    for name, own in SPELLINGS.items():
        if values.get(name) is not None:
            told.setdefault(own, values[name])
    return Fields(told), encode(told)
