"""Where a database of PostgreSQL is, as its URL says; this module needs no driver."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

SCHEMES = ("postgresql", "postgres")
#: How many connections a server has, where its URL does not say.
POOL_SIZE = 10
#: How to get the driver.
INSTALL = (
    "./bin/environment requirements-postgres.lock (in a checkout), or "
    "pip install 'trialogue[postgres]'"
)


@dataclass(frozen=True, slots=True)
class Patience:
    """How many seconds we wait for what."""

    #: for a connection to be made
    connect: float = 5.0
    #: for one to be free
    free: float = 10.0
    #: for the answer to a statement
    answer: float = 30.0
    #: between two looks at whether a database is back
    look: float = 1.0


_USUAL = Patience()


@dataclass(frozen=True, slots=True)
class Address:
    """Where a database is, as its URL says, and what of it is ours and not PostgreSQL's."""

    url: str
    pool_size: int = POOL_SIZE
    #: how many statements stay prepared on a connection; 0 for a pooler that cannot keep them
    statements: int = 100
    patience: Patience = _USUAL

    @property
    def shown(self) -> str:
        """The URL without its password and without what else may be secret in it."""
        parts = urlsplit(self.url)
        user, at, where = parts.netloc.rpartition("@")
        return f"{parts.scheme}://{user.partition(':')[0]}{at}{where}{parts.path}"


def address(url: str, patience: Patience = _USUAL) -> Address:
    """Read a URL as libpq does, and `pool_size` and `statement_cache_size` besides.

    Raises ValueError, whose text does not repeat the URL.
    """
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES:
        raise ValueError("must be postgresql://USER@HOST/DATABASE")
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    ours = {name: value for name, value in pairs if name in ("pool_size", "statement_cache_size")}
    if not all(value.isascii() and value.isdigit() for value in ours.values()):
        raise ValueError(f"{' and '.join(ours)} must be numbers")
    theirs = urlencode([pair for pair in pairs if pair[0] not in ours])
    size = int(ours.get("pool_size", POOL_SIZE))
    if size < 1:
        raise ValueError("pool_size must be 1 or more")
    plain_url = urlunsplit((parts.scheme, parts.netloc, parts.path, theirs, ""))
    return Address(plain_url, size, int(ours.get("statement_cache_size", 100)), patience)
