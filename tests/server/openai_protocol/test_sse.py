"""The parser of event streams: pure, so every way to cut its bytes can be tried."""

from __future__ import annotations

from collections import deque
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.openai_protocol.sse import EventStream, OversizedEventError

STREAM = (
    b"\xef\xbb\xbf: hello\n\ndata: one\n\n"
    b"event: delta\r\nid: 7\r\ndata:two\r\n\r\n"
    b"retry: 5\rdata:  three\rdata: more\r\r"
    b"data\n\nnonsense\n\n\n\ndata: \xf0\x9f\x98\x80\xe2\x80\xa8\x85 four\n\n"
)
EVENTS = [b"one", b"two", b" three\nmore", b"", b"\xf0\x9f\x98\x80\xe2\x80\xa8\x85 four"]


def parse(pieces: list[bytes], limit: int = 1_000) -> list[bytes]:
    stream = EventStream(limit)
    events = [event for piece in pieces for event in stream.feed(piece)]
    return events + stream.close()


def test_fields_comments_and_all_three_line_ends() -> None:
    assert parse([STREAM]) == EVENTS


def test_every_byte_may_come_alone() -> None:
    assert parse([bytes([byte]) for byte in STREAM]) == EVENTS


@given(st.lists(st.integers(0, len(STREAM)), max_size=6))
def test_where_the_bytes_are_cut_makes_no_difference(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    assert parse([STREAM[a:b] for a, b in pairwise(edges)]) == EVENTS


@given(st.lists(st.binary(max_size=20), max_size=8))
def test_any_bytes_parse_the_same_in_pieces_as_at_once(pieces: list[bytes]) -> None:
    assert parse(pieces) == parse([b"".join(pieces)])


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_an_event_is_given_as_soon_as_its_blank_line_begins(end: bytes) -> None:
    stream = EventStream(100)
    assert stream.feed(b"data: x" + end + end[:1]) == [b"x"]
    assert stream.feed(end[1:] + b"data: y" + end * 2) == [b"y"]


def test_a_line_feed_after_cr_lf_is_a_blank_line() -> None:
    stream = EventStream(100)
    assert stream.feed(b"data: x\r") == []
    assert stream.feed(b"\n") == []
    assert stream.feed(b"\n") == [b"x"]


def test_the_end_gives_what_lacks_only_its_blank_line() -> None:
    assert parse([b"data: x"]) == [b"x"]
    assert parse([b"data: x\n"]) == [b"x"]
    assert parse([b"data: x\n\n"]) == [b"x"]
    assert parse([b": x"]) == []


@pytest.mark.parametrize(
    "endless", [b"data: aaaaaaaa", b"aaaaaaaaaaaaaa", b"data: a\n", b"data\n", b": \xff\xff\xff"]
)
def test_what_never_ends_is_refused_while_it_grows(endless: bytes) -> None:
    stream = EventStream(1_000)
    stream.feed(endless)
    more = endless if endless.endswith(b"\n") else b"a" * 10
    with pytest.raises(OversizedEventError):
        deque(map(stream.feed, [more] * 2_000))


def test_a_long_stream_of_short_events_is_no_long_event() -> None:
    stream = EventStream(16)
    assert sum(len(stream.feed(b": comment\ndata: 123456\n\n")) for _ in range(1_000)) == 1_000


def test_a_long_line_within_one_read_is_refused_too() -> None:
    with pytest.raises(OversizedEventError):
        EventStream(16).feed(b"data: " + b"a" * 17 + b"\n\n")
