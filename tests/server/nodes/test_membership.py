"""Who is taken for dead: by what one observer's own clock saw, and never for want of looking."""

from __future__ import annotations

import pytest

from server.nodes.membership import DEATH, DEATH_REFUSED, HOLD_BACK, BuriedError, Membership
from storage.port import UnavailableError
from tests.support.fake_nodes import Members, Table


class Time:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Town:
    """Two nodes, of which one may stand still."""

    def __init__(self) -> None:
        self.time, self.table = Time(), Table()
        self.refusing: set[str] = set()
        self.one = self._member("one:1")
        self.other = self._member("other:1")

    def _member(self, address: str) -> Membership:
        async def refuses(at: str) -> bool:
            return at in self.refusing

        member = Membership(Members(self.table), refuses=refuses, now=self.time)
        member.address = address
        return member

    async def begin(self) -> None:
        await self.one.join()
        await self.other.join()
        await self.pass_by(1, "one", "other")

    async def pass_by(self, seconds: int, *beating: str) -> None:
        """Let seconds pass in which these beat and look."""
        for _ in range(seconds):
            self.time.now += 1
            for name in beating:
                member: Membership = getattr(self, name)
                await member.beat()
                await member.bury_the_dead()


@pytest.fixture
async def town() -> Town:
    made = Town()
    await made.begin()
    return made


async def test_what_others_have_of_an_owner_is_as_of_their_last_beats(town: Town) -> None:
    town.one.crowd, town.other.crowd = {"ada": 1}, {"ada": 2, "bob": 3}
    await town.pass_by(2, "one", "other")
    assert (town.one.elsewhere("ada"), town.one.elsewhere("bob")) == (2, 3)
    assert (town.other.elsewhere("ada"), town.other.elsewhere("bob")) == (1, 0)
    await town.pass_by(int(DEATH) + 1, "one")
    assert town.one.elsewhere("ada") == 0


async def test_who_beats_is_alive_and_holds_its_turns(town: Town) -> None:
    await town.pass_by(20, "one", "other")
    assert town.one.nodes == town.other.nodes == 2
    assert town.one.held(town.one.node)
    assert not town.one.held("anybody else")


async def test_who_stands_still_is_dead_after_five_seconds(town: Town) -> None:
    still = town.other.node
    assert still is not None
    await town.pass_by(int(DEATH), "one")
    assert town.one.alive(still)
    await town.pass_by(1, "one")
    assert not town.one.alive(still)
    with pytest.raises(BuriedError):
        await town.other.beat()
    await town.other.join()
    assert town.other.node != still
    assert not town.other.held(still)


async def test_it_tells_nothing_long_before_it_is_dead(town: Town) -> None:
    await town.pass_by(int(HOLD_BACK), "one")
    assert not town.other.held(town.other.node)
    assert town.one.alive(str(town.other.node))


async def test_who_refuses_is_dead_sooner(town: Town) -> None:
    town.refusing.add("other:1")
    await town.pass_by(int(DEATH_REFUSED), "one")
    assert town.one.nodes == 2
    await town.pass_by(1, "one")
    assert town.one.nodes == 1


async def test_who_beats_behind_a_port_that_refuses_is_alive(town: Town) -> None:
    town.refusing |= {"one:1", "other:1"}
    await town.pass_by(20, "one", "other")
    assert town.one.nodes == town.other.nodes == 2


async def test_one_that_was_begun_anew_at_the_same_address_buries_its_forerunner(
    town: Town,
) -> None:
    forerunner = str(town.other.node)
    await town.other.join()
    await town.pass_by(3, "one", "other")
    assert not town.one.alive(forerunner)
    assert town.one.alive(str(town.other.node))


async def test_a_database_that_was_away_kills_nobody(town: Town) -> None:
    town.table.away = True
    with pytest.raises(UnavailableError):
        await town.pass_by(1, "one")
    town.time.now += 60
    town.table.away = False
    await town.pass_by(int(DEATH), "one")
    assert town.one.nodes == 2
    await town.pass_by(1, "one")
    assert town.one.nodes == 1


async def test_one_that_beats_in_the_last_moment_is_not_buried(town: Town) -> None:
    await town.pass_by(int(DEATH), "one")
    town.time.now += 1
    await town.one.beat()
    await town.other.beat()
    await town.one.bury_the_dead()
    assert town.one.alive(str(town.other.node))
