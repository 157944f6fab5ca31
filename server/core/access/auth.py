"""Authentication: API keys and their owners, and the web pages that may reach us."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import structlog

from server.config.hosts import is_loopback
from server.core.access.concurrency import ConcurrencyLimit, Room
from server.core.access.pages import PagePolicy
from server.core.access.proxies import NOTHING, AddressLimit, Forwarded, Proxies
from server.core.access.rate import Allowance, RateLimit, SharedRateLimit
from server.core.errors import InvalidApiKeyError, PermissionDeniedError
from storage.model import ApiKey

log = structlog.get_logger("trialogue.doors")

#: Whose conversations they are where nobody has to show a key.
EVERYONE = "default"


def digest(key: str) -> bytes:
    """Return all that is kept of a key. Keys are random, so one round of SHA-256 is enough."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def bearer(authorization: str | None) -> str | None:
    """Return the key of an `Authorization: Bearer KEY` header, if it is one (RFC 6750)."""
    scheme, _, key = (authorization or "").partition(" ")
    return key.strip() or None if scheme.lower() == "bearer" else None


def key_in(headers: Mapping[str, str]) -> str | None:
    """Return the key that a request shows; OpenAI's clients for Azure send `api-key`."""
    return bearer(headers.get("authorization")) or headers.get("api-key") or None


def new_key(owner: str, now: int, *, expires_at: int | None = None) -> tuple[str, ApiKey]:
    """Make a key of 256 random bits: its text, shown once, and what is kept of it."""
    text = f"tk_{secrets.token_urlsafe(32)}"
    kept = ApiKey(f"key_{secrets.token_hex(6)}", owner, digest(text), now, expires_at)
    return text, kept


def configured(pairs: str) -> list[ApiKey]:
    """Return the keys of `name:key,key,…`; one without a name owns what only it can see."""
    keys = []
    for pair in filter(None, (one.strip() for one in pairs.split(","))):
        name, colon, key = pair.partition(":")
        name, key = (name.strip(), key.strip()) if colon else ("", pair)
        if not key:  # as `name:$KEY` is where KEY is not set
            continue
        kept = digest(key)
        owner = name or f"key-{kept.hex()[:16]}"
        keys.append(ApiKey(f"key_{kept.hex()[:12]}", owner, kept, 0))
    return keys


class KnownKeys(Protocol):
    """Keys that are made and revoked while we run: a file, or a table of the database."""

    def keys(self) -> Sequence[ApiKey]:
        """Return every key there is, revoked ones too: the same list for as long as they are."""
        ...


class Auth:
    """One place where every wire asks whose a key is and whether a page may come in."""

    def __init__(
        self,
        keys: Iterable[ApiKey],
        key_file: KnownKeys | None,
        now: Callable[[], int],
        *,
        open_to_all: bool,
        public: bool,
        until_keyed: bool = False,
        origins: Iterable[str] = (),
        hosts: Iterable[str] = (),
        rate: RateLimit | SharedRateLimit | None = None,
        most_by_key: int | None = None,
        most_by_address: int | None = None,
        proxies: Proxies | None = None,
    ) -> None:
        """`open_to_all` asks nobody for a key, `until_keyed` nobody until there is one in the file.

        `most_by_key` and `most_by_address`: connections and calls at once, on all wires. There is a
        parameter for each setting of access, since none is a part of another.
        """
        self._configured = tuple(keys)
        self._key_file = key_file
        self._now = now
        self._open_to_all = open_to_all
        self._until_keyed = until_keyed
        self._pages = PagePolicy(
            frozenset(origins), frozenset(hosts), public=public, keyless=lambda: self.open
        )
        self._rate = rate
        self.owners = ConcurrencyLimit(most_by_key, "key")
        self.proxies = proxies or Proxies()
        self.addresses = AddressLimit(most_by_address, self.proxies)

    @property
    def shared(self) -> bool:
        """Whether there are owners that have to share: all are one in an open house."""
        return not self.open

    def room(self, most: int, of: str) -> Room:
        """Return so many places, `of` which owners have their share."""
        return Room(most, of, lambda: self.shared)

    @property
    def open(self) -> bool:
        """Whether nobody has to show a key. What the first key has closed stays closed."""
        if self._until_keyed and self._key_file is not None and self._key_file.keys():
            self._until_keyed = False
            if not self._open_to_all:
                log.warning("there is a key now: from here on one is needed")
        return self._open_to_all or self._until_keyed

    async def owner(self, key: str | None) -> str:
        """Return whose key this is. Raises InvalidApiKeyError; an open house takes any key."""
        if key is None:
            if self.open:
                return EVERYONE
            raise InvalidApiKeyError(
                "You didn't provide an API key. Send it as a header: Authorization: Bearer KEY."
            )
        shown = digest(key)
        found = None
        for known in (*self._configured, *(self._key_file.keys() if self._key_file else ())):
            if hmac.compare_digest(known.digest, shown) and self._valid(known):
                found = known.owner
        if found is not None:
            return found
        if self.open:
            return EVERYONE
        raise InvalidApiKeyError("Incorrect API key provided.")

    def alone(self, owner: str) -> bool:
        """Say whether nobody else can come in, or could while a key was good that is known here."""
        if self.open and owner != EVERYONE:
            return False
        keys = (*self._configured, *(self._key_file.keys() if self._key_file else ()))
        return all(key.owner == owner for key in keys)

    async def count(self, owner: str) -> Allowance | None:
        """Count a request of an owner, whichever wire it came by; None where there is no limit."""
        return await self._rate.counted(owner) if self._rate is not None else None

    @property
    def known(self) -> Sequence[ApiKey]:
        """The keys that can be made and revoked while we run: the same list while none is."""
        return self._key_file.keys() if self._key_file is not None else self._configured

    def check_origin(
        self, origin: str | None, host: str | None, port: int, forwarded: Forwarded = NOTHING
    ) -> None:
        """Refuse a Host that is not ours, and a page that we did not serve; `port` is the page's.

        No Origin is no page. Against DNS rebinding and cross-site websockets (CWE-1385). Who needs
        no key because nobody else can reach us is not let in where a proxy says that it is another.
        """
        self._pages.check(origin, host, port, forwarded.host)
        if forwarded.address is None or is_loopback(forwarded.address) or self._open_to_all:
            return
        if self.open:
            raise PermissionDeniedError(
                "A proxy hands this on from another machine, and no API key is needed here: make "
                "one with trialogue keys create, or let everyone in with TRIALOGUE_AUTH=off."
            )

    def _valid(self, key: ApiKey) -> bool:
        expired = key.expires_at is not None and key.expires_at <= self._now()
        return key.revoked_at is None and not expired
