"""Tests of whose X-Forwarded-* headers are believed, and which word of them."""

from __future__ import annotations

import pytest

from server.core.access.auth import Auth, configured
from server.core.access.proxies import NOTHING, AddressLimit, Forwarded, Proxies
from server.core.errors import PermissionDeniedError, RateLimitedError

PAGE_PORT = 8000
NEAR = Proxies(("127.0.0.1", "::1", "10.0.0.0/8"))
ALL = [("X-Forwarded-For", "203.0.113.9"), ("X-Forwarded-Proto", "https")]


def house(*, keys: str = "", open_to_all: bool = False) -> Auth:
    """Return the doors of a server on this machine; without keys nobody needs one there."""
    return Auth(
        configured(keys),
        None,
        lambda: 0,
        open_to_all=open_to_all,
        public=False,
        until_keyed=not keys,
        hosts=("chat.example",),
    )


@pytest.mark.parametrize(
    "peer", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "10.200.1.1", "[::1]:80", "127.0.0.1:80"]
)
def test_who_is_named_is_believed(peer: str) -> None:
    assert NEAR.told(peer, ALL) == Forwarded("203.0.113.9", None, "https", None)


@pytest.mark.parametrize("peer", ["203.0.113.9", "127.0.0.2", "11.0.0.1", "", "unix:", "localhost"])
def test_nobody_else_is(peer: str) -> None:
    assert NEAR.told(peer, ALL) == NOTHING
    assert Proxies(("*",)).told(peer, ALL) != NOTHING
    assert Proxies().told(peer, ALL) == NOTHING


@pytest.mark.parametrize(
    ("chain", "client"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("127.0.0.1, 203.0.113.9", "203.0.113.9"),  # the first word is the client's own
        ("::1, 203.0.113.9, 10.0.0.7", "203.0.113.9"),
        ("203.0.113.9:4711", "203.0.113.9"),
        ('"[2001:db8::1]:4711"', "2001:db8::1"),
        ("10.0.0.9", "10.0.0.9"),
        ("203.0.113.9, unknown, 10.0.0.7", "10.0.0.7"),
        ("unknown", None),
        ("127.0.0.1 evil", None),
        (" , ", None),
    ],
)
def test_a_client_is_the_nearest_who_is_not_believed(chain: str, client: str | None) -> None:
    assert NEAR.told("127.0.0.1", [("x-forwarded-for", chain)]).address == client


def test_the_last_word_counts_in_one_header_or_in_several() -> None:
    headers = [
        ("x-forwarded-host", "evil.example, Chat.example"),
        ("X-Forwarded-Proto", "HTTP"),
        ("x-forwarded-proto", "HTTPS"),
        ("x-forwarded-prefix", "/evil"),
        ("x-forwarded-prefix", "/chat/"),
    ]
    assert NEAR.told("::1", headers) == Forwarded(None, "Chat.example", "https", "/chat")


@pytest.mark.parametrize(
    "prefix", ["chat", "//evil.example", "/a/../b", "/..", "/%2e", "/a b", "/a?b", "/a\\b", "/é"]
)
def test_what_is_no_prefix_is_none(prefix: str) -> None:
    told = NEAR.told("::1", [("x-forwarded-prefix", prefix), ("x-forwarded-proto", "gopher")])
    assert (told.prefix, told.scheme) == (None, None)


class TestPages:
    def test_the_page_is_at_the_host_that_the_proxy_was_asked_for(self) -> None:
        forwarded = Forwarded(host="chat.example")
        house(keys="k").check_origin("https://chat.example", "127.0.0.1:8000", PAGE_PORT, forwarded)
        for origin in ("https://evil.example", "http://127.0.0.1:8000"):
            with pytest.raises(PermissionDeniedError):
                house(keys="k").check_origin(origin, "127.0.0.1:8000", PAGE_PORT, forwarded)

    @pytest.mark.parametrize(
        ("host", "proxied"),
        [("chat.example:8443", "chat.example"), ("chat.example", "chat.example:8443")],
    )
    def test_a_proxy_may_tell_its_port_in_one_of_both(self, host: str, proxied: str) -> None:
        one = house(keys="k")
        one.check_origin("https://chat.example:8443", host, PAGE_PORT, Forwarded(host=proxied))
        with pytest.raises(PermissionDeniedError, match="Origin is not allowed"):
            one.check_origin("https://chat.example:9443", host, PAGE_PORT, Forwarded(host=proxied))

    @pytest.mark.parametrize(
        ("host", "proxied"),
        [
            ("rebound.example:8000", "localhost:8000"),  # whose page may set any header
            ("rebound.example:8000", "chat.example"),
            ("localhost:8000", "rebound.example"),
            ("localhost:8000", "chat.example/"),
        ],
    )
    def test_no_header_makes_up_for_a_host_that_is_not_ours(self, host: str, proxied: str) -> None:
        for one in (house(keys="k"), house(), house(open_to_all=True)):
            with pytest.raises(PermissionDeniedError, match="Host is not allowed"):
                one.check_origin(None, host, PAGE_PORT, Forwarded(host=proxied))


class TestThisMachineAlone:
    def test_a_stranger_is_none_of_it_though_a_proxy_is(self) -> None:
        for address in ("203.0.113.9", "192.168.1.5", "2001:db8::1"):
            with pytest.raises(PermissionDeniedError, match="another machine"):
                house().check_origin(None, "localhost:8000", PAGE_PORT, Forwarded(address))

    def test_whoever_shows_a_key_or_needs_none_may_come_from_anywhere(self) -> None:
        for one in (house(keys="k"), house(open_to_all=True)):
            one.check_origin(None, "localhost:8000", PAGE_PORT, Forwarded("203.0.113.9"))

    @pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
    def test_a_proxy_for_this_machine_is_let_through(self, address: str) -> None:
        house().check_origin(None, "localhost:8000", PAGE_PORT, Forwarded(address))


class TestByAddress:
    def test_a_proxys_clients_are_counted_and_not_its_connections(self) -> None:
        limit = AddressLimit(1, NEAR)
        assert [limit.enter("127.0.0.1") for _ in range(3)] == [0, 0, 0]
        ann, bob = Forwarded("203.0.113.1"), Forwarded("203.0.113.2")
        with limit.request("127.0.0.1", ann), limit.request("127.0.0.1", bob):
            for _ in range(2):
                with pytest.raises(RateLimitedError), limit.request("127.0.0.1", ann):
                    pass
        with limit.request("127.0.0.1", ann):
            pass
        for _ in range(3):
            limit.leave("127.0.0.1")

    def test_whom_no_proxy_speaks_for_is_counted_by_connections(self) -> None:
        limit = AddressLimit(1, NEAR)
        assert [limit.enter("203.0.113.1") for _ in range(2)] == [0, 1]
        with limit.request("203.0.113.1", NOTHING):  # it was counted when it connected
            limit.leave("203.0.113.1")
        limit.leave("203.0.113.1")
        assert limit.enter("203.0.113.1") == 0

    def test_one_who_forges_a_chain_is_counted_as_where_he_is(self) -> None:
        limit = AddressLimit(1, NEAR)
        told = [
            NEAR.told("::1", [("x-forwarded-for", f"198.51.100.{n}, 203.0.113.1")])
            for n in range(2)
        ]
        first, second = (limit.request("::1", one) for one in told)
        with first, pytest.raises(RateLimitedError), second:
            pass
