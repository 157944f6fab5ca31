"""Tests of who may come in: keys and their owners, and the pages of browsers."""

from __future__ import annotations

from typing import Any

import pytest

from server.config.hosts import is_here
from server.core.access.auth import EVERYONE, Auth, bearer, configured, digest, new_key
from server.core.errors import InvalidApiKeyError, PermissionDeniedError
from storage.keys import KeyFile
from storage.model import ApiKey

NOW = 1_000


def auth(*keys: ApiKey, file: KeyFile | None = None, **more: Any) -> Auth:
    usual = {"open_to_all": False, "public": False}
    return Auth(keys, file, lambda: NOW, **{**usual, **more})


async def refused(house: Auth, key: str | None) -> str:
    with pytest.raises(InvalidApiKeyError) as error:
        await house.owner(key)
    return str(error.value)


ODD_KEYS = [
    "",
    " ",
    "secret ",
    "SECRET",
    "secre",
    "secret\x00",
    "' OR '1'='1",
    "secret' --",
    "%",
    "*",
    "clé-é",
    "🔑",
    "\udcff\udcfe",
    "\ud800",
    "s" * 1_000_000,
    "null",
]


@pytest.mark.parametrize("key", ODD_KEYS, ids=range(len(ODD_KEYS)))
async def test_a_wrong_key_is_refused_and_never_repeated(key: str) -> None:
    message = await refused(auth(*configured("ada:secret")), key)
    assert message == "Incorrect API key provided."


async def test_no_key_is_told_how_to_show_one() -> None:
    assert "Authorization: Bearer" in await refused(auth(*configured("secret")), None)


@pytest.mark.parametrize("key", ["clé-é", "🔑", "\udcff"])
async def test_keys_may_have_any_letters(key: str) -> None:
    assert await auth(*configured(f"ada:{key}")).owner(key) == "ada"


async def test_a_key_has_the_owner_that_is_named_with_it() -> None:
    house = auth(*configured(" ada:one , bob : two,three,, four"))
    assert [await house.owner(key) for key in ("one", "two")] == ["ada", "bob"]
    nameless = {await house.owner(key) for key in ("three", "four")}
    assert len(nameless) == 2
    assert not nameless & {"ada", "bob", EVERYONE, "three", "four"}


async def test_two_keys_of_one_name_have_one_owner() -> None:
    house = auth(*configured("ada:one,ada:two"))
    assert await house.owner("one") == await house.owner("two") == "ada"


@pytest.mark.parametrize("pairs", ["ada:", ":", " : ", "ada: ,bob:key"])
async def test_an_empty_key_lets_nobody_in(pairs: str) -> None:
    """As `ada:$KEY` is where KEY is not set."""
    house = auth(*configured(pairs))
    for key in ("", " "):
        await refused(house, key)


async def test_a_made_key_lets_its_owner_in_and_is_not_kept(key_file: KeyFile) -> None:
    text, kept = new_key("ada", NOW)
    key_file.add(kept)
    assert await auth(file=key_file).owner(text) == "ada"
    assert text not in key_file.path.read_text()
    assert kept.digest == digest(text)
    assert new_key("ada", NOW)[0] != text


async def test_a_key_can_be_made_and_revoked_while_we_run(key_file: KeyFile) -> None:
    house = auth(file=key_file)
    text, kept = new_key("ada", NOW)
    await refused(house, text)
    key_file.add(kept)
    assert await house.owner(text) == "ada"
    KeyFile(key_file.path).revoke(kept.id, NOW)
    await refused(house, text)


@pytest.mark.parametrize(("expires_at", "valid"), [(NOW + 1, True), (NOW, False), (1, False)])
async def test_a_key_lasts_until_it_expires(expires_at: int, valid: bool) -> None:
    text, kept = new_key("ada", 0, expires_at=expires_at)
    if valid:
        assert await auth(kept).owner(text) == "ada"
    else:
        await refused(auth(kept), text)


async def test_an_open_house_lets_everybody_in_and_knows_its_own(key_file: KeyFile) -> None:
    text, kept = new_key("ada", NOW)
    key_file.add(kept)
    house = auth(file=key_file, open_to_all=True)
    assert [await house.owner(key) for key in (None, "anything", text)] == [
        EVERYONE,
        EVERYONE,
        "ada",
    ]


async def test_a_house_is_open_until_there_is_a_key(key_file: KeyFile) -> None:
    house = auth(file=key_file, until_keyed=True)
    assert [await house.owner(key) for key in (None, "anything")] == [EVERYONE] * 2
    assert house.open
    text, kept = new_key("ada", NOW)
    KeyFile(key_file.path).add(kept)
    assert await house.owner(text) == "ada"
    for key in (None, "anything"):
        await refused(house, key)
    key_file.path.unlink()  # what lost its keys is not open again
    await refused(house, None)
    assert not house.open


HERE = "localhost localhost:8000 LOCALHOST. my.localhost 127.0.0.1 127.9.9.9:1 [::1] [::1]:8000"
ELSEWHERE = "chat.example localhost.example 192.168.1.5 0.0.0.0 [::] * http://localhost [::1 127.1"


def test_what_can_only_be_this_machine() -> None:
    assert [host for host in HERE.split() if not is_here(host)] == []
    assert [host for host in ELSEWHERE.split() if is_here(host)] == []


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ("Bearer secret", "secret"),
        ("bearer secret", "secret"),
        ("BEARER  secret ", "secret"),
        ("Bearer clé", "clé"),
        ("Bearer ", None),
        ("Bearer", None),
        ("Basic secret", None),
        ("secret", None),
        ("", None),
        (None, None),
    ],
)
def test_a_bearer_s_key_is_read(header: str | None, key: str | None) -> None:
    assert bearer(header) == key


PORT = 8000
#: origin, host; what a browser on a page of that origin sends to the host
LET_IN = [
    (None, None),
    (None, "localhost:8000"),
    (None, "127.0.0.1:9001"),
    (None, "[::1]:8000"),
    (None, "LOCALHOST"),
    (None, "localhost.:8000"),
    (None, "my.localhost:8000"),
    ("http://localhost:8000", "localhost:8000"),
    ("http://LocalHost:8000", "localhost:8000"),
    ("http://127.0.0.1:8000", "127.0.0.1:8000"),
    ("http://[::1]:8000", "[::1]:8000"),
    ("https://localhost:8000", "localhost:8000"),
    ("http://localhost:8000", "localhost:9001"),  # our page, at our websocket
    ("http://[::1]:8000", "[::1]:9001"),
]
KEPT_OUT = [
    (None, "evil.example"),
    (None, "evil.example:8000"),
    (None, "localhost.evil.example:8000"),
    (None, "127.0.0.1.evil.example"),
    (None, "192.168.1.5:8000"),
    (None, "0.0.0.0:8000"),
    (None, "[fe80::1]:8000"),
    (None, ""),
    (None, "[::1"),
    (None, "a b"),
    ("http://evil.example", "localhost:8000"),
    ("http://evil.example:8000", "127.0.0.1:8000"),
    ("http://evil.example:8000", "evil.example:8000"),  # a name rebound to this machine
    ("http://localhost:3000", "localhost:8000"),
    ("http://localhost:3000", "localhost:9001"),
    ("http://localhost", "localhost:8000"),
    ("http://127.0.0.1:8000", "localhost:8000"),
    ("http://localhost:8000.evil.example", "localhost:8000"),
    ("http://localhost:99999", "localhost:8000"),
    ("file://localhost:8000", "localhost:8000"),
    ("chrome-extension://abcdef", "localhost:8000"),
    ("null", "localhost:8000"),
    ("", "localhost:8000"),
    ("http://", "localhost:8000"),
    ("http://[::1", "localhost:8000"),
    ("http://\u2100.example", "localhost:8000"),
    ("http://localhost:8000", None),
]


@pytest.mark.parametrize(("origin", "host"), LET_IN)
def test_our_own_pages_come_in(origin: str | None, host: str | None) -> None:
    auth().check_origin(origin, host, PORT)


@pytest.mark.parametrize(("origin", "host"), KEPT_OUT)
@pytest.mark.parametrize("open_to_all", [True, False])
def test_other_pages_stay_outside(origin: str | None, host: str | None, open_to_all: bool) -> None:
    with pytest.raises(PermissionDeniedError):
        auth(open_to_all=open_to_all).check_origin(origin, host, PORT)


@pytest.mark.parametrize(
    ("origin", "host", "port"),
    [
        ("http://chat.example", "chat.example", 80),
        ("https://chat.example", "chat.example", 443),
        ("https://chat.example", "chat.example:9001", 443),
        ("http://192.168.1.5:8000", "192.168.1.5:9001", 8000),
        (None, "192.168.1.5:8000", 8000),
        (None, "[2001:db8::1]:8000", 8000),
    ],
)
def test_a_public_house_with_keys_answers_to_any_name(
    origin: str | None, host: str, port: int
) -> None:
    auth(public=True).check_origin(origin, host, port)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://evil.example", "chat.example"),
        ("http://evil.example", "192.168.1.5:8000"),
        ("https://chat.example", "chat.example:8000"),  # another server of that machine
    ],
)
def test_a_public_house_with_keys_lets_no_foreign_page_in(origin: str, host: str) -> None:
    with pytest.raises(PermissionDeniedError):
        auth(public=True).check_origin(origin, host, PORT)


def test_a_public_house_without_keys_answers_to_no_strange_name() -> None:
    house = auth(public=True, open_to_all=True)
    house.check_origin(None, "192.168.1.5:8000", PORT)
    with pytest.raises(PermissionDeniedError):
        house.check_origin(None, "rebound.example:8000", PORT)


def test_named_hosts_alone_come_in() -> None:
    house = auth(public=True, hosts=("chat.example", "two.example:81"))
    for host in ("chat.example", "CHAT.example:8000", "two.example:81", "localhost"):
        house.check_origin(None, host, PORT)
    for host in ("two.example:82", "evil.example", "sub.chat.example"):
        with pytest.raises(PermissionDeniedError):
            house.check_origin(None, host, PORT)


def test_named_origins_come_in_from_anywhere() -> None:
    house = auth(origins=("https://app.example",))
    house.check_origin("https://APP.example", "localhost:8000", PORT)
    for origin in ("http://app.example", "https://app.example:444", "https://sub.app.example"):
        with pytest.raises(PermissionDeniedError):
            house.check_origin(origin, "localhost:8000", PORT)


def test_a_star_lets_all_of_them_in() -> None:
    auth(origins=("*",)).check_origin("http://evil.example", "localhost:8000", PORT)
    auth(hosts=("*",)).check_origin(None, "evil.example", PORT)
    with pytest.raises(PermissionDeniedError):
        auth(origins=("*",)).check_origin("http://evil.example", "evil.example", PORT)


def test_whoever_had_a_key_is_not_forgotten(key_file: KeyFile) -> None:
    house = auth(*configured("ada:a,ada:b"), file=key_file)
    assert house.alone("ada")
    _, bobs = new_key("bob", NOW, expires_at=NOW - 1)
    key_file.add(bobs)
    key_file.revoke(bobs.id, NOW)
    assert not house.alone("ada")
    assert not house.alone("bob")


def test_nobody_is_alone_with_a_key_of_an_open_house() -> None:
    assert auth(open_to_all=True).alone(EVERYONE)
    assert not auth(*configured("ada:a"), open_to_all=True).alone(EVERYONE)
    assert not auth(*configured("ada:a"), open_to_all=True).alone("ada")
