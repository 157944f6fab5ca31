"""One story, told over every wire and over all of them mixed: everybody hears the same."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest

from storage.sqlite.store import SQLiteStore
from tests.server.upstream.remote.turn_helpers import asking
from tests.support.fakes import Puppet
from tests.support.live import Fork, Served, serve
from tests.support.upstream_script import Behaviour, event, say
from tests.support.upstream_server import ScriptedUpstream
from tests.support.wires import WIRES, UpgradedWebsocket, Wire
from tests.whole.listening import Listener, checked

Names = tuple[str, str, str]
#: the websocket on the HTTP port is the same wire, once more
TOLD = {**WIRES, "upgraded": UpgradedWebsocket}
ALONE: list[Names] = [(name, name, name) for name in TOLD]
MIXED: list[Names] = [(a, b, c) for a, b, c in itertools.permutations(WIRES)]


async def told(puppet: Puppet, *wires: Wire) -> None:
    """Tell the story: begun on the first wire, followed on the others, cancelled on the third."""
    a, b, c = wires
    watcher = await _opened(puppet, a, b)
    await _followed(puppet, watcher, a, b, c)
    await _cancelled(puppet, watcher, a, b, c)
    await _regenerated(puppet, watcher, b, c)
    ends = [one.turn for one in await watcher.ends(3) if one.turn and one.turn["ended_at"]]
    assert [turn["status"] for turn in ends] == ["completed", "cancelled", "completed"]
    await watcher.leave()


async def _opened(puppet: Puppet, a: Wire, b: Wire) -> Listener:
    """Ask the first question; then somebody watches what comes."""
    opening = Listener(a.ask("demo", "Are you there?", system_prompt="Be kind."))
    puppet.answer("Yes.")
    checked(await opening.ends())
    return Listener(b.watch("demo"))


async def _followed(puppet: Puppet, watcher: Listener, a: Wire, b: Wire, c: Wire) -> None:
    asker = Listener(a.ask("demo", "What is the time? ⏰"))
    puppet.say("Hé", "llo ", "😀")
    await asker.until("😀")
    middle = asker.cursor
    late, early = Listener(b.follow(asker.turn_id, middle)), Listener(c.follow(asker.turn_id))
    await asyncio.gather(late.started(), early.until("Héllo 😀"), watcher.until("Héllo 😀"))
    puppet.say("👩‍👩‍👧", "\r\n\n", " \u2028 <|end|> data: \ud7ff").finish()
    everybody = [await listener.ends() for listener in (asker, early, await _one(watcher))]
    ends = [checked(heard) for heard in everybody]
    ends.append(checked(await late.ends(), after=middle))
    answer = "Héllo 😀👩‍👩‍👧\r\n\n \u2028 <|end|> data: \ud7ff"
    assert ends == [ends[0]] * 4
    assert ends[0].turn is not None
    assert (ends[0].turn["status"], ends[0].turn["answer"]) == ("completed", answer)
    # Long afterwards it is the same.
    for wire in (a, b, c):
        assert checked(await Listener(wire.follow(asker.turn_id)).ends()) == ends[0]
        again = await Listener(wire.follow(asker.turn_id, 3)).ends()
        assert checked(again, after=3) == ends[0]
        assert await wire.messages("demo") == [
            ("user", "Are you there?"),
            ("assistant", "Yes."),
            ("user", "What is the time? ⏰"),
            ("assistant", answer),
        ]


async def _one(watcher: Listener) -> Listener:
    """Return a watcher that has heard one turn to its end."""
    await watcher.ends(1)
    return watcher


async def _cancelled(puppet: Puppet, watcher: Listener, a: Wire, b: Wire, c: Wire) -> None:
    asker = Listener(a.ask("demo", "Say much."))
    await asker.started()
    follower = Listener(b.follow(asker.turn_id))
    puppet.say("Once upon ")
    await asyncio.gather(asker.until("upon"), follower.until("upon"))
    turn = await c.cancel(asker.turn_id)
    ends = [checked(await listener.ends()) for listener in (asker, follower)]
    assert (turn["status"], turn["answer"]) == ("cancelled", "Once upon ")
    assert [end.turn for end in ends] == [turn, turn]
    assert await a.cancel(asker.turn_id) == turn  # cancelling an ended one is no error
    heard = await watcher.ends(2)
    assert [one for one in heard if one.turn_id == asker.turn_id][-1].turn == turn


async def _regenerated(puppet: Puppet, watcher: Listener, b: Wire, c: Wire) -> None:
    before = await b.messages("demo")
    again = Listener(b.regenerate("demo"))
    await again.started()
    # The cancelled call has taken all that was said before.
    await puppet.asked(4)
    puppet.answer("Twice.")
    end = checked(await again.ends())
    assert end.turn is not None
    assert end.turn["answer"] == "Twice."
    assert await c.messages("demo") == [*before[:-1], ("assistant", "Twice.")]
    heard = await watcher.ends(3)
    assert [one for one in heard if one.turn_id == end.turn_id][-1] == end


@pytest.mark.parametrize("names", [*ALONE, *MIXED], ids="-".join)
async def test_everybody_hears_the_same_story(
    served: Served, upstream: Puppet, names: Names
) -> None:
    await told(upstream, *(TOLD[name](served) for name in names))
    systems = {str(prompt.messages[0].content) for prompt in upstream.prompts}
    assert systems == {"Be kind."}


def piece(text: str) -> bytes:
    """Return a piece of an answer as an upstream says it; halves of a pair stay escaped."""
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return event({"object": "chat.completion.chunk", "choices": [choice]})


def cut_up(text: str) -> Behaviour:
    """Say a text of which every character is split: pairs into halves, bytes into chunks."""
    steps: list[bytes | str] = []
    for letter in text:
        if letter > "\uffff":
            halves = json.dumps(letter).strip('"')
            steps += [piece(json.loads(f'"{half}"')) for half in (halves[:6], halves[6:])]
        else:
            plain = json.dumps({"choices": [{"index": 0, "delta": {"content": letter}}]})
            raw = plain.replace(json.dumps(letter), f'"{letter}"').encode()
            steps += [b"data: " + raw[:-6], raw[-6:] + b"\n\n"]
            if len(letter.encode()) > 1:
                steps[-2:] = _within(b"data: " + raw + b"\n\n", letter.encode())
    return say(*steps)


def _within(data: bytes, letter: bytes) -> list[bytes]:
    """Cut bytes in the middle of a letter."""
    middle = data.index(letter) + 1
    return [data[:middle], data[middle:]]


async def test_what_the_upstream_splits_is_whole_for_everybody(store: SQLiteStore) -> None:
    answer = "Aé😀ß👩‍👩‍👧漢🇩🇪!"
    async with ScriptedUpstream() as scripted:
        scripted.script(cut_up(answer))
        upstream = asking(api_key="k", base_url=scripted.base_url)
        async with serve(store, upstream) as served:
            asker = Listener(WIRES["rest"](served).ask("demo", "Cut it up"))
            await asker.started()
            followers = [Listener(WIRES[name](served).follow(asker.turn_id)) for name in WIRES]
            ends = [checked(await listener.ends()) for listener in (asker, *followers)]
            for wire in WIRES.values():
                assert await wire(served).messages("demo") == [
                    ("user", "Cut it up"),
                    ("assistant", answer),
                ]
        await upstream.close()
    assert ends == [ends[0]] * 4
    assert ends[0].turn is not None
    assert ends[0].turn["answer"] == answer


@pytest.mark.parametrize("names", MIXED, ids="-".join)
async def test_each_wire_goes_on_with_what_was_said_on_another(
    store: SQLiteStore, names: Names
) -> None:
    async with ScriptedUpstream() as scripted:
        scripted.script(say("One."), say("Two."), say("Three."))
        upstream = asking(api_key="k", base_url=scripted.base_url)
        async with serve(store, upstream) as served:
            for number, name in enumerate(names, 1):
                asker = Listener(WIRES[name](served).ask("demo", f"Question {number}"))
                checked(await asker.ends())
            found = await WIRES["rest"](served).messages("demo")
        await upstream.close()
        sent = [request.body["messages"] for request in scripted.requests]
    whole = [
        {"role": "user", "content": "Question 1"},
        {"role": "assistant", "content": "One."},
        {"role": "user", "content": "Question 2"},
        {"role": "assistant", "content": "Two."},
        {"role": "user", "content": "Question 3"},
    ]
    assert sent == [whole[:1], whole[:3], whole]
    assert found == [*((m["role"], m["content"]) for m in whole), ("assistant", "Three.")]


async def test_one_who_was_cut_off_reads_the_rest_on_another_wire_after_a_restart(
    tmp_path: Path,
) -> None:
    prompt = "I remember " + "one long and winding road and " * 8
    listeners: dict[str, Listener] = {}
    slow = {"TRIALOGUE_ELIZA_DELAY": "0.04"}
    async with Fork(tmp_path, "--drain-seconds", "0.3", env=slow) as first:
        for name, wire in WIRES.items():
            listeners[name] = Listener(wire(first).ask(f"of-{name}", prompt))
        await _all(listener.until(" ") for listener in listeners.values())
        await _all(listener.leave() for listener in listeners.values())
        first.terminate()
        assert await first.ended() == 0
    onto = dict(zip(WIRES, [*list(WIRES)[1:], "rest"], strict=True))
    async with Fork(tmp_path) as second:
        for name, listener in listeners.items():
            back = Listener(WIRES[onto[name]](second).follow(listener.turn_id, listener.cursor))
            end = checked(await back.ends(), after=listener.cursor)
            assert end.turn is not None
            assert end.turn["status"] == "interrupted"
            assert listener.text + back.text == end.turn["answer"]
            assert back.text
            told = await WIRES[name](second).messages(f"of-{name}")
            assert told[-1] == ("assistant", end.turn["answer"])


async def _all(waiting: Any) -> None:
    awaitables: list[Awaitable[Any]] = list(waiting)
    await asyncio.gather(*awaitables)
