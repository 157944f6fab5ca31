"""Chunks that repeat but for their text: what is made of them is what reading each would make."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

import pytest

from server.openai_protocol import codec
from server.openai_protocol.codec import MalformedError
from server.openai_protocol.expectations import Expectations
from server.openai_protocol.repeated import RepeatedChunk
from server.openai_protocol.response import Most
from server.openai_protocol.stream import StreamNormalizer
from server.upstream.answering import _Answer, together
from server.upstream.port import Reply, UpstreamFailedError

#: As they stand in JSON: words, letters in UTF-8, escapes, and what no string of JSON may have.
TEXTS = (
    *(
        b"hi",
        b"",
        b" a",
        "é😀日".encode(),
        b"\\n",
        b'say \\"no\\"',
        b"\\ud83d",
        b"\\ude00",
        b"\\u00e9",
    ),
    *(b"\xff", b"\xed\xa0\x80", b"\x00", b"\n", b'","role":"user', b'"', b"\\"),
)
CALLS = (
    b',"tool_calls":[{"index":0,"id":"c","type":"function","function":{"name":"f","arguments":""}}]'
)


def chunk(chance: random.Random, *, chat: bool) -> bytes:
    """Return an event as some upstream might send it; most of them alike."""
    text = chance.choice(TEXTS if chance.random() < 0.2 else TEXTS[:4])
    odd = chance.random() < 0.15
    said = b'"content":"%b"' % text if chat else b'"text":"%b"' % text
    more = chance.choice((b"", b',"reasoning":"hm"', b',"role":"assistant"', b',"content":null'))
    more += chance.choice((b"", b',"refusal":"no"', CALLS))
    said += more if odd and chat else b""
    choice = b'"index":%d,' % chance.choice((0, 0, 0, 1)) if odd else b'"index":0,'
    choice += b'"delta":{%b}' % said if chat else said
    choice += chance.choice((b"", b',"logprobs":{"content":[]}', b',"logprobs":null')) * odd
    finish = chance.choice((b"null", b'"stop"', b'"eos"', b"7")) if odd else b"null"
    choice += b',"finish_reason":%b' % finish
    if not chat:
        choice += b',"logprobs":null'
    usage = chance.choice((b"", b',"usage":null', b',"usage":{"prompt_tokens":3}')) * odd
    usage += chance.choice((b"", b',"prompt_progress":{"total":9}', b',"error":{"code":1}')) * (
        chance.random() < 0.02
    )
    kind = b"chat.completion.chunk" if chat else b"text_completion"
    model = chance.choice((b"m", b"other")) if odd else b"m"
    head = b'"id":"x","object":"%b","created":1,"model":"%b"' % (kind, model)
    end = chance.choice((b"\n\n", b"\n\n", b"\r\n\r\n", b"\n: note\n\n")) if odd else b"\n\n"
    return b'data: {%b,"choices":[{%b}]%b}%b' % (head, choice, usage, end)


def made_of(events: list[bytes], *, chat: bool, most: int) -> Iterator[Any]:
    chunks = StreamNormalizer(
        "m", str, chat=chat, expected=Expectations(usage=True), most=Most(chars=most)
    )
    answer = _Answer(chat=chat)
    reply = Reply(200, {}, iter(()))  # type: ignore[arg-type]
    try:
        for event in events:
            said = chunks.take(event)
            yield said, chunks.reading, chunks.whole, chunks.begun, chunks.settled
            if chunks.over:
                return
            if said:
                yield list(together(answer.take(said, reply)))
    except (MalformedError, UpstreamFailedError) as error:
        yield str(error)
    if (counter := chunks.uncounted) is not None:
        body = json.dumps({"messages": [], "prompt": ""}).encode()
        yield counter.usage("/chat/completions" if chat else "/completions", "gpt-4o", body)


@pytest.mark.parametrize("chat", [True, False])
def test_a_stream_is_what_it_is_when_each_chunk_is_read(
    monkeypatch: pytest.MonkeyPatch, *, chat: bool
) -> None:
    repeated = 0
    text_of = RepeatedChunk.text_of

    def counted(self: RepeatedChunk, event: bytes) -> str | None:
        nonlocal repeated
        found = text_of(self, event)
        repeated += found is not None
        return found

    for seed in range(400):
        chance = random.Random(seed)
        events = [chunk(chance, chat=chat) for _ in range(40)]
        most = chance.choice((30, 10_000))
        monkeypatch.setattr(RepeatedChunk, "text_of", lambda self, event: None)
        slowly = list(made_of(events, chat=chat, most=most))
        monkeypatch.setattr(RepeatedChunk, "text_of", counted)
        assert list(made_of(events, chat=chat, most=most)) == slowly
    assert repeated > 1_000


def test_a_long_answer_s_chunks_are_not_read_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = 0

    def parse(data: bytes) -> tuple[dict[str, Any], bool]:
        nonlocal reads
        reads += 1
        return codec.parse(data)

    monkeypatch.setattr("server.openai_protocol.response.parse", parse)
    monkeypatch.setattr("server.upstream.answering.parse", parse)
    said = '{"index":0,"delta":{"content":"word %d"},"finish_reason":null}'
    head = '"id":"x","object":"chat.completion.chunk","created":1,"model":"m"'
    events = [f'data: {{{head},"choices":[{said % n}]}}\n\n'.encode() for n in range(1_000)]
    for _ in made_of(events, chat=True, most=1 << 20):
        pass
    assert reads == 2


def test_a_stream_whose_chunks_all_differ_is_not_learnt_for_ever() -> None:
    repeated = RepeatedChunk(chat=True)
    for number in range(20):
        said = {"choices": [{"index": 0, "delta": {"content": "a"}}], "obfuscation": f"{number}"}
        event = b"data: %b\n\n" % codec.encode(said)
        assert repeated.text_of(event) is None
        repeated.learn(event, said)
    assert repeated.text_of(b"data: %b\n\n" % codec.encode({**said, "obfuscation": "7"})) == "a"
    assert repeated.text_of(event) is None
