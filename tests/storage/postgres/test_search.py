"""Tests of search with trigrams and without, and of the words that we find ourselves."""

from __future__ import annotations

import asyncpg
import pytest

from storage.model import Content, Query
from storage.port import Store
from storage.postgres import terms
from storage.postgres.store import PostgresStore
from tests.storage.nouns import ADA, conversation, message

WITHOUT_PIECES, WITH_PIECES = "postgres_of_ctype_c", "postgres_url"
both = pytest.mark.parametrize("store", [WITH_PIECES, WITHOUT_PIECES], indirect=True)


async def found(store: Store, words: str) -> list[str]:
    page = await store.search(ADA, Query(words), limit=50)
    return sorted(hit.message.id for hit in page.items if hit.message)


async def keep(store: Store, *texts: str) -> None:
    said = [message(f"m{number}", content=text) for number, text in enumerate(texts)]
    await store.put(ADA, conversation(), said, [])


@pytest.mark.parametrize("store", [WITH_PIECES], indirect=True)
async def test_any_piece_of_three_letters_is_found(store: PostgresStore) -> None:
    assert store._pieces
    await keep(store, "An elephant", "Über Elefanten", "100%_sure \\ of it")
    for words, ids in (
        ("phan", ["m0"]),
        ("LEFAN", ["m1"]),
        ("über", ["m1"]),
        ("ÜBE", ["m1"]),
        ("%_su", ["m2"]),
        ("0%_", ["m2"]),
        ("1_0", []),
        ("\\ of", ["m2"]),
    ):
        assert await found(store, words) == ids, words


@pytest.mark.parametrize("store", [WITHOUT_PIECES], indirect=True)
async def test_without_trigrams_beginnings_of_words_are_found(store: PostgresStore) -> None:
    assert not store._pieces
    await keep(store, "An elephant", "Über Elefanten, Жираф")
    for words, ids in (
        ("eleph", ["m0"]),
        ("phan", []),
        ("ÜBER", ["m1"]),
        ("uber elef", ["m1"]),
        ("жира", ["m1"]),
        ("an eleph", ["m0"]),
    ):
        assert await found(store, words) == ids, words


@both
@pytest.mark.parametrize(
    ("words", "ids"),
    [
        ("日本", ["m0"]),
        ("本語", ["m0"]),
        ("日語", []),
        ("日本語を", ["m0"]),
        ("한국", ["m1"]),
        ("ไทย", ["m2"]),
        ("cafe", ["m3"]),
        ("ca fe", []),
        ("x2", ["m3"]),
        ("é", []),
    ],
)
async def test_words_of_any_script_are_found(store: Store, words: str, ids: list[str]) -> None:
    await keep(store, "私は日本語を話す", "나는 한국어를 한다", "ภาษาไทย", "cafe X2")
    assert await found(store, words) == ids


@both
async def test_what_is_long_is_kept_and_its_beginning_found(store: Store) -> None:
    distinct = " ".join(f"word{number}" for number in range(60_000))
    chinese = "".join(chr(0x4E00 + number % 20_000) for number in range(60_000))
    await keep(store, f"elephant {distinct}", f"giraffe {chinese}", "w" * 300_000)
    assert await found(store, "elephant") == ["m0"]
    assert await found(store, "giraffe") == ["m1"]
    assert await found(store, "www") == ["m2"]
    kept = await store.message(ADA, "c", "m0")
    assert kept.content == f"elephant {distinct}"


@both
async def test_parts_are_searched_by_their_text_alone(store: Store) -> None:
    parts: Content = [
        {"type": "text", "text": "A giraffe"},
        {"type": "image_url", "image_url": {"url": "data:elephant"}},
    ]
    await store.put(ADA, conversation(), [message("m0", content=parts)], [])
    assert await found(store, "giraffe") == ["m0"]
    assert await found(store, "elephant") == []
    assert await found(store, "image_url") == []


@both
async def test_more_than_a_window_is_paged_through(store: Store) -> None:
    await keep(store, *("elephant" for _ in range(450)))
    seen: list[str] = []
    more, after = True, None
    while more:
        page = await store.search(ADA, Query("elephant"), limit=100, after=after)
        seen += [hit.message.id for hit in page.items if hit.message]
        more, after = page.has_more, seen[-1]
    assert len(seen) == len(set(seen)) == 450


async def test_the_index_of_pieces_is_used(postgres_url: str) -> None:
    async with PostgresStore(postgres_url):
        connection = await asyncpg.connect(postgres_url)
        try:
            await connection.execute("SET enable_seqscan = off")
            plan = await connection.fetch(
                "EXPLAIN SELECT m.key FROM messages m "
                "WHERE lower(COALESCE(m.spoken, m.content)) LIKE lower('%eleph%')"
            )
        finally:
            await connection.close()
    assert any("messages_pieces" in row[0] for row in plan)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("Hello, World-wide 42nd", ["hello", "world", "wide", "42nd"]),
        ("naïve CAFÉ", ["naive", "cafe"]),
        ("snake_case it's", ["snake", "case", "it", "s"]),
        ("日本x", ["日", "本", "x"]),
        ("한국", ["한", "국"]),
        ("Ελλάδα Жук", ["ελλαδα", "жук"]),
        ("🐘\x00'\\:*&|!()<->", []),
    ],
)
def test_words_are_those_of_unicode61(text: str, words: list[str]) -> None:
    assert list(terms.words(text)) == words


def test_what_is_asked_is_a_phrase_a_term_and_may_go_on() -> None:
    assert terms.asked(["日本", "b"]) == "('日' <-> '本':*) & ('b':*)"
    assert terms.asked(["-", "🐘"]) is None
    assert terms.vector("b a b") == "'b':1,3 'a':2"
