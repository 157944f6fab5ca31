"""What is kept, as relations that every adapter can read and write: how history is migrated.

Each adapter says which of its tables and columns are none of these, and why
(`tests/storage/migration/test_relations.py` looks at its schema for what was forgotten).
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass
from enum import Enum
from hashlib import sha256
from typing import Any, Protocol

Row = Sequence[Any]
#: Rows that are read, and written, at a time.
ROWS_AT_ONCE = 200
_DIGEST_MODULUS = 1 << 256


class Kind(Enum):
    """What a column holds."""

    INTEGER = "integer"
    REAL = "real"
    TEXT = "text"
    BYTES = "bytes"
    BOOLEAN = "boolean"
    #: a boolean that is never null
    FLAG = "flag"


@dataclass(frozen=True, slots=True)
class Relation:
    """A relation: its columns, and those by which its rows are ordered and told apart."""

    name: str
    columns: Mapping[str, Kind]
    order: tuple[str, ...] = ("key",)


def _relation(name: str, *, order: str = "key", **columns: str) -> Relation:
    kinds = {
        column: Kind[kind.upper()] for kind, named in columns.items() for column in named.split()
    }
    return Relation(name, kinds, tuple(order.split()))


#: Places are 1, 2, 3, ...
API_KEYS = _relation(
    "api_keys",
    order="place",
    integer="place created_at expires_at revoked_at",
    text="id owner",
    bytes="digest",
)
#: In an order in which nothing names what is not there yet.
RELATIONS: Sequence[Relation] = (
    API_KEYS,
    _relation(
        "conversations",
        integer="key head message_count created_at updated_at active_at",
        text="owner id title system_prompt model metadata truncation",
        flag="pinned unlisted",
    ),
    _relation(
        "messages",
        integer="key conversation parent depth tokens created_at stands_for",
        text="owner id role encoding model turn_id content item",
        flag="is_parts",
    ),
    _relation(
        "turns",
        integer="key conversation question answer prompt_tokens completion_tokens cached_tokens "
        "reasoning_tokens context_window context_budget context_prompt_tokens context_included "
        "context_trimmed error_status created_at ended_at drift",
        text="owner id status model finish_reason error_code error_message context_counted "
        "options wire",
        boolean="context_window_known",
        flag="free",
    ),
    _relation("responses", order="turn", integer="turn", text="record", flag="deleted"),
    _relation("checkpoints", order="turn position", integer="turn position", text="text marks"),
    _relation(
        "claims",
        order="owner key",
        integer="turn created_at",
        text="owner key",
        bytes="fingerprint",
    ),
    _relation("completions", integer="key created_at", text="owner id model answer messages"),
    _relation(
        "completion_metadata",
        order="completion name",
        integer="completion",
        text="owner name value",
    ),
    _relation("spending", order="owner day", integer="day tokens", text="owner"),
    _relation("upstream_objects", integer="key parent created_at", text="upstream id owner kind"),
    _relation(
        "lessons",
        order="place",
        integer="place window window_at",
        text="upstream model",
        real="ratio",
    ),
)


@dataclass(frozen=True, slots=True)
class Digest:
    """How many rows a relation has, and a sum over them that depends on no order."""

    rows: int = 0
    sum: int = 0

    def with_rows(self, rows: Sequence[Row]) -> Digest:
        total = self.sum + sum(map(_digest, rows))
        return Digest(self.rows + len(rows), total % _DIGEST_MODULUS)

    @property
    def shown(self) -> str:
        return f"{self.sum:064x}"[:12]


def _digest(row: Row) -> int:
    written = json.dumps(
        [value.hex() if isinstance(value, bytes) else value for value in row], ensure_ascii=True
    )
    return int.from_bytes(sha256(written.encode()).digest())


class Standing(Enum):
    """What is at a target."""

    EMPTY = "empty"
    #: some of this source's history
    HALF = "half"
    #: some of another's
    OTHERS_HALF = "others half"
    #: history of its own, or all of this source's
    FULL = "full"


class Source(Protocol):
    """Where history is read from. Any method may raise UnavailableError."""

    @property
    def place(self) -> str:
        """Where it is, in words."""
        ...

    @property
    def identity(self) -> str:
        """Some letters that tell it from others."""
        ...

    def moment(self) -> AbstractAsyncContextManager[None]:
        """All that is read inside is of one moment."""
        ...

    def rows(self, relation: Relation, skip: int = 0) -> AsyncGenerator[Sequence[Row], None]:
        """Yield the rows of a relation behind the first so many, in its order, some at a time."""
        ...

    async def count(self, relation: Relation) -> int: ...

    async def last_turn_key(self) -> int:
        """Return the greatest key that a turn has had."""
        ...

    async def in_use(self) -> bool:
        """Say whether a server uses it."""
        ...


class Target(Source, Protocol):
    """Where history is written to: no server begins on it before it is whole."""

    async def standing(self, source: str) -> Standing:
        """Say what is there, for who comes from a source."""
        ...

    async def begin(self, source: str) -> None:
        """Begin, or go on."""
        ...

    async def begin_anew(self) -> None:
        """Throw away what is half there, of whatever source."""
        ...

    async def write(self, relation: Relation, rows: Sequence[Row]) -> None:
        """Keep rows: all of them, or none."""
        ...

    async def finish(self, last_turn_key: int) -> None:
        """Make what follows from what was written; done again, it changes nothing."""
        ...

    async def done(self) -> None:
        """Let servers begin."""
        ...


def identity(of: str) -> str:
    return sha256(of.encode()).hexdigest()[:16]


async def digest(source: Source, relation: Relation) -> Digest:
    """Read a relation through."""
    found = Digest()
    async with aclosing(source.rows(relation)) as parts:
        async for rows in parts:
            found = found.with_rows(rows)
    return found
