"""Event streams, read and cut at their borders: pure, so every way to split bytes can be tried."""

from __future__ import annotations

from collections import deque
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.openai_protocol.sse import (
    Cutter,
    EventStream,
    OversizedEventError,
    data_of,
    events_of,
    is_plain,
    joined,
    without_comments,
)

STREAM = (
    b"\xef\xbb\xbf: hello\n\ndata: one\n\n"
    b"event: delta\r\nid: 7\r\ndata:two\r\n\r\n"
    b"retry: 5\rdata:  three\rdata: more\r\r"
    b"data\n\nnonsense\n\n\n\ndata: \xf0\x9f\x98\x80\xe2\x80\xa8\x85 four\n\n"
)
EVENTS = [b"one", b"two", b" three\nmore", b"", b"\xf0\x9f\x98\x80\xe2\x80\xa8\x85 four"]

LIMIT = 1_000


def parse(pieces: list[bytes], limit: int = LIMIT) -> list[bytes]:
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


def cut(pieces: list[bytes]) -> list[bytes]:
    cutter = Cutter(LIMIT)
    return [event for piece in pieces for event in cutter.feed(piece)] + cutter.close()


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_events_come_whole_and_unchanged_however_they_are_split(end: bytes) -> None:
    events = [b"data: one" + 2 * end, b"event: x" + end + b"data: two" + 2 * end]
    stream = b"".join(events)
    for size in range(1, len(stream) + 1):
        pieces = [stream[i : i + size] for i in range(0, len(stream), size)]
        found = cut(pieces)
        assert found[:1] == events[:1]
        assert data_of(found[1]) == b"two"
        assert len(found) == 2


def test_many_events_in_one_piece_are_apart() -> None:
    assert cut([b"data: 1\n\ndata: 2\n\ndata: 3\n\nda", b"ta: 4\n\n"]) == [
        b"data: %d\n\n" % number for number in (1, 2, 3, 4)
    ]


def test_a_last_event_without_its_border_gets_one() -> None:
    assert cut([b"data: 1\n\n", b"data: [DONE]"]) == [b"data: 1\n\n", b"data: [DONE]\n\n"]
    assert cut([b"data: 1\n\n", b"\n"]) == [b"data: 1\n\n"]


def test_an_event_that_grows_too_long_is_refused_before_its_end() -> None:
    cutter = Cutter(100)
    cutter.feed(b"data: " + 90 * b"x")
    with pytest.raises(OversizedEventError):
        cutter.feed(10 * b"x")


def test_an_event_is_too_long_however_it_is_split() -> None:
    fits, too_long = (b"data: " + length * b"x" + b"\n\n" for length in (92, 93))
    for size in (1, 7, 200):
        cutter = Cutter(100)
        assert [one for piece in in_pieces(fits, size) for one in cutter.feed(piece)] == [fits]
        with pytest.raises(OversizedEventError):
            [cutter.feed(piece) for piece in in_pieces(too_long, size)]


def in_pieces(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def test_comments_go_and_every_other_byte_stays() -> None:
    event = b": ping\nevent: x\n:: more\ndata: a\ndata: b\n\n"
    assert without_comments(event) == b"event: x\ndata: a\ndata: b\n\n"
    assert data_of(event) == b"a\nb"
    plain = b'data: {"a": ": no comment"}\n\n'
    assert is_plain(plain)
    assert without_comments(plain) is plain


def test_the_mark_before_a_stream_is_no_part_of_its_data() -> None:
    assert data_of(b"\xef\xbb\xbfdata:x\n\n") == b"x"


LINES = st.sampled_from([b"data: a", b"data:b", b": c", b"", b"event: e", b"data", b"id: 1"])
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])


@given(st.lists(st.tuples(LINES, ENDS), max_size=30), st.integers(1, 20))
def test_the_data_is_what_a_plain_reader_finds(lines: list[tuple[bytes, bytes]], size: int) -> None:
    stream = b"".join(line + end for line, end in lines) + b"\n\n"
    pieces = [stream[i : i + size] for i in range(0, len(stream), size)]
    reader = EventStream(LIMIT)
    expected = [event for event in reader.feed(stream) if event]
    assert [data for event in cut(pieces) if (data := data_of(event))] == expected


@given(st.lists(st.tuples(LINES, ENDS), max_size=30), st.integers(1, 60))
def test_events_that_leave_together_can_be_told_apart(
    lines: list[tuple[bytes, bytes]], size: int
) -> None:
    stream = b"".join(line + end for line, end in lines) + b"\n\n"
    events = cut(in_pieces(stream, size))
    assert [event for piece in joined(events) for event in events_of(piece)] == events


def test_events_without_a_return_leave_as_one() -> None:
    events = [b"data: a\n\n", b"\n\n", b"\ndata: b\n\n"]
    assert joined(events) == [b"".join(events)]
    assert list(events_of(b"".join(events))) == events
