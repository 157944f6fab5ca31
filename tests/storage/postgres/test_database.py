"""Tests of a database that goes away, comes back, does not answer, and of what its URL says."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress

import pytest

from storage.model import Query, Status
from storage.port import Piece, UnavailableError
from storage.postgres import beginning
from storage.postgres.address import Patience, address
from storage.postgres.database import compiled
from storage.postgres.escapes import kept, plain
from storage.postgres.store import PostgresStore
from tests.storage.nouns import ADA, begin, conversation, exchange, outcome, turn
from tests.support.postgres import PostgresServer, running_server

HASTY = Patience(connect=0.5, answer=0.5, look=0.01)


class Relay:
    """Stands between a store and its server, and passes on what it is let."""

    def __init__(self, port: int) -> None:
        self._server = port
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()
        #: what is passed on to the store; what is not is swallowed
        self.answers = asyncio.Event()
        self.answers.set()
        self.swallowed = asyncio.Event()

    async def __aenter__(self) -> Relay:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.close()
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Break every connection there is."""
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
        behind, before = await asyncio.open_connection("127.0.0.1", self._server)
        self._writers += [writer, before]
        await asyncio.gather(
            self._pass(reader, before, answers=False), self._pass(behind, writer, answers=True)
        )

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                if answers and not self.answers.is_set():
                    self.swallowed.set()
                    continue
                writer.write(data)
                await writer.drain()
        writer.transport.abort()


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A server of one's own, to be killed."""
    with running_server() as one:
        one.create("mine")
        yield one


@pytest.fixture
async def relay(postgres: PostgresServer) -> AsyncIterator[Relay]:
    async with Relay(postgres.port) as one:
        yield one


async def until_back(store: PostgresStore) -> None:
    while True:
        try:
            return await store.ping()
        except UnavailableError:
            await asyncio.sleep(0.05)


async def test_a_database_that_was_killed_is_used_again(server: PostgresServer) -> None:
    async with PostgresStore(server.url("mine")) as store:
        await exchange(store)
        await begin(store, "2", parent="a_1")
        await store.checkpoint([Piece(ADA, "turn_2", 0, "Half")])
        server.kill()
        for tried in (
            store.ping(),
            store.conversation(ADA, "c"),
            store.end(ADA, "turn_2", outcome("2")),
            store.search(ADA, Query("Hello"), limit=5),
        ):
            with pytest.raises(UnavailableError):
                await tried
        await asyncio.to_thread(server.start)
        await until_back(store)
        assert (await store.turn(ADA, "turn_2")).answer == "Half"
        assert (await store.end(ADA, "turn_2", outcome("2"))).status is Status.COMPLETED
        assert (await store.conversation(ADA, "c")).message_count == 4


async def test_what_was_acknowledged_outlives_a_kill(server: PostgresServer) -> None:
    acknowledged: list[str] = []

    async def ask(store: PostgresStore, name: str) -> None:
        for number in range(1000):
            await exchange(store, f"{name}_{number}", into=f"c{name}")
            acknowledged.append(f"turn_{name}_{number}")

    async with PostgresStore(server.url("mine")) as store:
        asking = [asyncio.create_task(ask(store, str(n))) for n in range(6)]
        while len(acknowledged) < 60:
            await asyncio.sleep(0.01)
        server.kill()
        ended = await asyncio.gather(*asking, return_exceptions=True)
        assert all(isinstance(one, UnavailableError) for one in ended)
        await asyncio.to_thread(server.start)
        await until_back(store)
        for turn_id in acknowledged:
            assert (await store.turn(ADA, turn_id)).status is Status.COMPLETED


async def test_connections_that_break_are_made_anew(postgres_url: str, relay: Relay) -> None:
    where = address(postgres_url)
    name = where.url.rpartition("/")[2]
    async with PostgresStore(f"postgresql://trialogue@127.0.0.1:{relay.port}/{name}") as store:
        await asyncio.gather(*(store.ping() for _ in range(10)))
        relay.cut()
        await until_back(store)
        await asyncio.gather(*(store.ping() for _ in range(10)))


@pytest.mark.parametrize("store", ["postgres_url"], indirect=True)
async def test_a_beginning_whose_answer_was_lost_is_begun(
    store: PostgresStore, postgres_url: str, relay: Relay
) -> None:
    name = postgres_url.rpartition("/")[2]
    url = f"postgresql://trialogue@127.0.0.1:{relay.port}/{name}?pool_size=1"
    async with PostgresStore(url) as far:
        await exchange(far)
        relay.answers.clear()
        asked = asyncio.create_task(begin(far, "2", parent="a_1"))
        while not await is_there(store, "turn_2"):
            await asyncio.sleep(0.01)
        relay.answers.set()
        relay.cut()
        begun = await asked
        assert begun == await store.turn(ADA, "turn_2")
        assert begun.status is Status.RUNNING
        assert (await store.conversation(ADA, "c")).message_count == 3


@pytest.mark.parametrize("store", ["postgres_url"], indirect=True)
async def test_one_that_its_asker_was_told_is_not_begun_does_not_stay(
    store: PostgresStore,
    postgres_url: str,
    relay: Relay,
) -> None:
    name = postgres_url.rpartition("/")[2]
    url = f"postgresql://trialogue@127.0.0.1:{relay.port}/{name}?pool_size=1"
    async with PostgresStore(url, HASTY) as far:
        await exchange(far)
        relay.answers.clear()
        asked = asyncio.create_task(begin(far, "2", parent="a_1"))
        while not await is_there(store, "turn_2"):
            await asyncio.sleep(0.01)
        relay.cut()
        with pytest.raises(UnavailableError):
            await asked
        relay.answers.set()
        while (await store.turn(ADA, "turn_2")).status is Status.RUNNING:
            await asyncio.sleep(0.01)
        assert (await store.turn(ADA, "turn_2")).status is Status.INTERRUPTED


@pytest.mark.parametrize("store", ["postgres_url"], indirect=True)
async def test_one_that_comes_after_it_was_looked_for_does_not_stay(
    store: PostgresStore, postgres_url: str
) -> None:
    await exchange(store)
    async with PostgresStore(f"{postgres_url}?pool_size=1", Patience(look=0.01)) as looking:
        looking._db.later(beginning._interrupt(looking._db, ADA, turn("2")))
        for _ in range(5):  # on the one connection there is, behind what the first look asks
            await looking.ping()
        await begin(store, "2", parent="a_1")
        while (await store.turn(ADA, "turn_2")).status is Status.RUNNING:
            await asyncio.sleep(0.01)
        assert (await store.turn(ADA, "turn_2")).status is Status.INTERRUPTED


@pytest.mark.parametrize("store", ["postgres_url"], indirect=True)
async def test_a_withdrawal_whose_answer_was_lost_is_one(
    store: PostgresStore, postgres_url: str, relay: Relay
) -> None:
    name = postgres_url.rpartition("/")[2]
    url = f"postgresql://trialogue@127.0.0.1:{relay.port}/{name}?pool_size=1"
    async with PostgresStore(url) as far:
        await exchange(far)
        await far.withdraw(ADA, "turn_1")  # it has ended; the statement is prepared from now on
        await begin(far, "2", parent="a_1")
        relay.answers.clear()
        asked = asyncio.create_task(far.withdraw(ADA, "turn_2", head_id="a_1"))
        while await is_there(store, "turn_2"):
            await asyncio.sleep(0.01)
        relay.answers.set()
        relay.cut()
        await asked
        assert (await store.conversation(ADA, "c")).head_id == "a_1"


async def is_there(store: PostgresStore, turn_id: str) -> bool:
    return any(turn.id == turn_id for _, turn in await store.running())


async def test_one_that_does_not_answer_is_away(postgres_url: str, relay: Relay) -> None:
    name = postgres_url.rpartition("/")[2]
    async with PostgresStore(
        f"postgresql://trialogue@127.0.0.1:{relay.port}/{name}", HASTY
    ) as store:
        relay.answers.clear()
        with pytest.raises(UnavailableError):
            await store.ping()
        relay.answers.set()
        relay.cut()
        await until_back(store)


async def test_closing_does_not_wait_for_a_database_that_does_not_answer(
    postgres_url: str, relay: Relay
) -> None:
    name = postgres_url.rpartition("/")[2]
    patience = Patience(connect=0.3, answer=3600)
    url = f"postgresql://trialogue@127.0.0.1:{relay.port}/{name}"
    async with PostgresStore(url, patience) as store:
        relay.answers.clear()
        asked = asyncio.create_task(store.ping())
        await relay.swallowed.wait()
    with pytest.raises(UnavailableError):
        await asked


async def test_more_statements_than_connections_wait_for_one(postgres_url: str) -> None:
    async with PostgresStore(f"{postgres_url}?pool_size=2") as store:
        await asyncio.gather(*(store.ping() for _ in range(60)))
        assert store.waiting == 0


async def test_a_closed_store_says_so(postgres_url: str) -> None:
    async with PostgresStore(postgres_url) as store:
        pass
    with pytest.raises(UnavailableError):
        await store.create(ADA, conversation())


async def test_nothing_is_done_beside_a_closed_store(postgres_url: str) -> None:
    async with PostgresStore(postgres_url) as store:
        pass
    store._db.later(store.ping())
    assert not store._db._beside


async def test_no_error_tells_the_password() -> None:
    url = "postgresql://ada:sesame@127.0.0.1:1/none"
    with pytest.raises(UnavailableError) as refused:
        await PostgresStore(url).__aenter__()
    assert "sesame" not in "".join(traceback.format_exception(refused.value))
    assert address(url).shown == "postgresql://ada@127.0.0.1:1/none"


@pytest.mark.parametrize(
    ("url", "shown", "size", "statements"),
    [
        ("postgresql://h/d", "postgresql://h/d", 10, 100),
        ("postgres://u:p@h:1/d?pool_size=3", "postgres://u@h:1/d", 3, 100),
        ("postgresql://u@h/d?statement_cache_size=0&sslmode=require", "postgresql://u@h/d", 10, 0),
        ("postgresql:///d?host=/run/postgresql", "postgresql:///d", 10, 100),
        ("postgresql://u:a%40b@h,i:2/d", "postgresql://u@h,i:2/d", 10, 100),
    ],
)
def test_a_url_says_where_and_how(url: str, shown: str, size: int, statements: int) -> None:
    read = address(url)
    assert (read.shown, read.pool_size, read.statements) == (shown, size, statements)
    assert "pool_size" not in read.url
    assert "statement_cache_size" not in read.url


@pytest.mark.parametrize(
    "url",
    [
        "mysql://h/d",
        "postgresql://h/d?pool_size=no",
        "postgresql://h/d?pool_size=0",
        "postgresql://h/d?statement_cache_size=-1",
    ],
)
def test_a_url_that_says_nonsense_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        address(url)


def test_names_become_places() -> None:
    sql, names = compiled("SELECT :a::text, :b_1, :a WHERE x::bigint = :b_1")
    assert (sql, names) == ("SELECT $1::text, $2, $1 WHERE x::bigint = $2", ["a", "b_1"])


@pytest.mark.parametrize(
    "text", ["", "a", "\x00", "\x1a", "\x1a0", "a\x00\x1a1\x1a\x00b", "\x1a\x1a"]
)
def test_any_text_comes_back(text: str) -> None:
    assert "\x00" not in kept(text)
    assert plain(kept(text)) == text
    assert kept([text, None, 1]) == [kept(text), None, 1]
    assert kept(text) != "\x1a"
