"""`trialogue chat` in a pseudo-terminal that can do more than show lines."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from server.core.turns.questions import Ask
from server.upstream.port import PromptProgress, UpstreamFailedError
from storage.model import Status
from storage.parts import Kind, Part
from tests.clients.programs import last_turn, port
from tests.clients.relay import Relay
from tests.clients.terminal import Terminal, able, command, terminal
from tests.server.transports.websocket.websocket_client import OWNER
from tests.support.fakes import Puppet
from tests.support.live import Fork, Served

pytest.importorskip("prompt_toolkit")
pytest.importorskip("rich")

PROMPT = "you>"
CTRL_C, ENTER, TAB, UP = "\x03", "\r", "\t", "\x1b[A"
Chat = Callable[..., AbstractAsyncContextManager[Terminal]]


@pytest.fixture
def chat(served: Served, tmp_path: Path) -> Chat:
    """Begins a chat in a terminal, with the flags that are given."""

    @asynccontextmanager
    async def begun(*flags: str, at: str = "") -> AsyncIterator[Terminal]:
        async with terminal("chat", *flags, served=at or served.websocket, **able(tmp_path)) as one:
            await one.read(PROMPT)
            yield one

    return begun


async def talked(served: Served, upstream: Puppet, conversation_id: str, question: str) -> None:
    upstream.answer(f"{question}!")
    turn = await served.conversations.ask(OWNER, conversation_id, Ask(question))
    async for _ in served.conversations.follow(OWNER, turn.id):
        pass


async def test_an_answer_is_shown_as_it_is_written(chat: Chat, upstream: Puppet) -> None:
    async with chat() as screen:
        await screen.press(f"Tell me{ENTER}")
        await upstream.asked(1)
        upstream.say("Once ")
        await screen.read("Once")
        upstream.say("upon a **time**.\n\nThere")
        await screen.read("time.")  # a block that is whole has no stars
        upstream.say(" was\n\n```py\nx = 1\n```\n").finish()
        await screen.read("was")
        await screen.read("x = 1")
        await screen.press(f"exit{ENTER}")
        assert await screen.code() == 0


@pytest.mark.parametrize("wire", ["rest", "grpc"])
async def test_it_is_the_same_over_other_wires(
    served: Served, chat: Chat, upstream: Puppet, wire: str
) -> None:
    async with chat("-C", "c", at=served.http if wire == "rest" else served.grpc) as screen:
        await screen.press(f"Tell me{ENTER}")
        await upstream.asked(1)
        upstream.say("Once ")
        await screen.read("Once")
        await screen.press(CTRL_C)
        await screen.read("[cancelled]")
        await screen.press(f"/open c{ENTER}")
        await screen.read("Once")
        await screen.read("[cancelled]")


async def test_300_lines_that_are_pasted_are_one_question(chat: Chat, upstream: Puppet) -> None:
    text = "\n".join(f"line {number}" for number in range(300))
    async with chat() as screen:
        await screen.paste(text)
        await screen.press(ENTER)
        upstream.answer("Long.")
        await screen.read("[288 more lines]")
        await screen.read("Long.")
    assert [one.messages[-1].content for one in upstream.prompts] == [text]


async def test_a_question_may_have_lines(chat: Chat, upstream: Puppet) -> None:
    async with chat() as screen:
        await screen.press(f"one\x1b{ENTER}two{ENTER}")
        upstream.answer("Fine.")
        await screen.read("Fine.")
    assert upstream.prompts[0].messages[-1].content == "one\ntwo"


async def test_control_c_stops_the_answer_and_a_second_leaves(
    served: Served, chat: Chat, upstream: Puppet
) -> None:
    async with chat("-C", "c") as screen:
        await screen.press(f"Tell me{ENTER}")
        await upstream.asked(1)
        upstream.say("Half")
        await screen.read("Half")
        await screen.press(CTRL_C)
        await screen.read("[cancelled]")
        assert (await last_turn(served.conversations, "c")).status is Status.CANCELLED
        await screen.press(CTRL_C)
        assert await screen.code() == 0


async def test_it_is_the_same_as_a_signal(served: Served, chat: Chat, upstream: Puppet) -> None:
    async with chat("-C", "c") as screen:
        await screen.press(f"Tell me{ENTER}")
        await upstream.asked(1)
        upstream.say("Half")
        await screen.read("Half")
        screen.interrupt()
        await screen.read("[cancelled]")
        screen.interrupt()
        assert await screen.code() == 0


async def test_control_c_withdraws_a_question_that_waits(
    served: Served, chat: Chat, upstream: Puppet
) -> None:
    await talked(served, upstream, "c", "before")
    async with chat("-C", "c") as screen:
        await screen.read("before!")
        await served.conversations.ask(OWNER, "c", Ask("theirs"))
        await screen.read("theirs")
        await screen.press(f"mine{ENTER}")
        await screen.read("[1 waiting]")
        await screen.press(CTRL_C)
        await screen.read("error: ")
        upstream.answer("Theirs alone.")
        await screen.read("Theirs alone.")
    assert len(upstream.prompts) == 2


async def test_what_another_asks_is_shown_while_somebody_types(
    served: Served, chat: Chat, upstream: Puppet
) -> None:
    await talked(served, upstream, "c", "before")
    async with chat("-C", "c") as screen:
        await screen.read("before!")  # its last words
        await screen.press("half a ")
        await screen.read("half a")
        upstream.answer("An answer to another.")
        assert (await command("ask", "-C", "c", "from afar", at=served.http))[0] == 0
        await screen.read("[asked by rest] from afar")
        await screen.read("An answer to another.")
        await screen.read("half a")
        await screen.press(f"question{ENTER}")
        upstream.answer("Mine.")
        await screen.read("Mine.")
    assert upstream.prompts[-1].messages[-1].content == "half a question"


async def test_a_terminal_that_is_resized_is_written_anew(chat: Chat, upstream: Puppet) -> None:
    async with chat() as screen:
        await screen.press(f"Much{ENTER}")
        await upstream.asked(1)
        upstream.say("Begun. ")
        await screen.read("Begun.")
        screen.resize(40)
        await screen.read("Begun.")  # it has heard of it, and drawn what is there anew
        upstream.say(f"{'word ' * 30}\n\nlast").fail(UpstreamFailedError("It broke."))
        shown = await screen.read("[failed")
        # What was drawn while it was written comes before, with moves of the cursor within.
        lines = shown.rpartition("Begun.")[2].splitlines()
        assert len(lines) > 4
        assert max(map(len, lines)) <= 40


async def test_a_lost_connection_is_told_and_nothing_is_lost(
    served: Served, chat: Chat, upstream: Puppet
) -> None:
    async with (
        Relay(port(served.websocket)) as relay,
        chat(at=f"ws://{relay.address}/") as screen,
    ):
        await screen.press(f"Tell me{ENTER}")
        await upstream.asked(1)
        upstream.say("Once ")
        await screen.read("Once")
        relay.cut()
        await screen.read("from character 5]")
        upstream.say("upon\n\na time.").finish()
        await screen.read("Once upon")
        await screen.read("a time.")


async def test_a_server_that_was_killed_is_waited_for(tmp_path: Path) -> None:
    state = able(tmp_path / "state")
    async with Fork(tmp_path) as first:
        at = first.websocket
        async with terminal("chat", "-C", "c", served=at, **state) as screen:
            await screen.read(PROMPT)
            await screen.press(f"I am sad{ENTER}")
            await screen.read("sorry to hear that")
            first.kill()
            await first.ended()
            await screen.read("; try 1 of 10")
            async with Fork(tmp_path, "--websocket-port", str(port(at))):
                await screen.press(f"My mother{ENTER}")
                await screen.read("My mother\n")
                await screen.read("about your mother.")


async def test_thoughts_and_calls_of_tools_are_shown(chat: Chat, upstream: Puppet) -> None:
    async with chat() as screen:
        await screen.press(f"Where?{ENTER}")
        upstream.say(Part(Kind.REASONING), "Let me see.", Part(Kind.TEXT), "Looking.")
        upstream.say(Part(Kind.TOOL_CALL, "call_a", "look"), '{"at": "Oslo"}')
        upstream.finish("tool_calls")
        await screen.read("Let me see.")
        await screen.read("Looking.")
        await screen.read('[calls look: {"at": "Oslo"}]')


async def test_an_answer_steers_no_terminal(chat: Chat, upstream: Puppet) -> None:
    async with chat() as screen:
        await screen.press(f"x{ENTER}")
        upstream.answer("a\x1b]0;title\x07b\x1b[2Jc")
        await screen.read("a\ufffd]0;title\ufffdb\ufffd[2Jc")


async def test_what_was_typed_is_there_in_the_next_run(
    chat: Chat, upstream: Puppet, tmp_path: Path
) -> None:
    async with chat() as screen:
        await screen.press(f"remember{ENTER}")
        upstream.answer("Yes.")
        await screen.read("Yes.")
        await screen.press(f"/quit{ENTER}")
        assert await screen.code() == 0
    kept = tmp_path / "trialogue" / "history"
    assert kept.stat().st_mode & 0o777 == 0o600
    async with chat() as screen:
        await screen.press(f"{UP}{UP}")
        await screen.read("remember")


async def test_commands_and_ids_are_completed(served: Served, chat: Chat, upstream: Puppet) -> None:
    await talked(served, upstream, "fruit-basket", "apples")
    async with chat() as screen:
        await screen.press(f"/sea{TAB}")
        await screen.read("rch")
        await screen.press(f"{CTRL_C}/open fru{TAB}")
        await screen.read("it-basket")
        await screen.press(ENTER)
        await screen.read("apples!")


async def test_no_word_that_leaves_and_no_command_is_asked(chat: Chat, upstream: Puppet) -> None:
    async with chat() as screen:
        await screen.press(f"/nothing at all{ENTER}")
        await screen.read("[there is no command /nothing; /help lists those there are]")
        await screen.press(f"Exit{ENTER}")
        assert await screen.code() == 0
    assert upstream.prompts == []


async def test_a_question_is_edited_and_its_branches_are_gone_through(
    served: Served, chat: Chat, upstream: Puppet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIALOGUE_HTTP_PORT", str(port(served.http)))
    exported = tmp_path / "fruit.json"
    await talked(served, upstream, "c", "apples")
    async with chat("-C", "c") as screen:
        await screen.read("apples!")
        enter = partial(_enter, screen, upstream)
        await enter("/regenerate", "Still apples.")
        await screen.press(f"/edit{ENTER}")
        await screen.read("/edit apples")
        await enter(" and pears", "Both.")
        await screen.press(f"/branch{ENTER}")
        await screen.read("*  1  assistant: Both.")
        await screen.read("   2  assistant: Still apples.")
        await screen.press(f"/branch 2{ENTER}")
        await screen.read("Still apples.")
        await enter("and now?", "A branch.")
        await screen.press(f"/export {exported}{ENTER}")
        await screen.read("[written to")
    assert [one.content for one in upstream.prompts[-1].messages] == [
        *("apples", "Still apples.", "and now?")
    ]
    (kept,) = json.loads(exported.read_text())["conversations"]
    assert len(kept["messages"]) == 7


async def test_it_is_told_what_would_be_sent_by_whom(
    chat: Chat, served: Served, upstream: Puppet
) -> None:
    async with chat("-C", "c") as screen:
        await screen.press(f"/system You are a pirate.{ENTER}")
        await _enter(screen, upstream, "Who?", "Arr.")
        await screen.press(f"/system You are a cook.{ENTER}/system{ENTER}")
        await screen.read("You are a cook.\n")
        await screen.press(f"/model eliza-2{ENTER}")
        await screen.read("[eliza-2 answers from now on]")
        await screen.press(f"/context{ENTER}")
        await screen.read(" kept, 0 left out")
    assert [one.content for one in upstream.prompts[0].messages] == ["You are a pirate.", "Who?"]


async def _enter(screen: Terminal, upstream: Puppet, typed: str, answer: str) -> None:
    upstream.answer(answer)
    await screen.press(f"{typed}{ENTER}")
    await screen.read(answer)


async def test_how_far_the_prompt_is_read_is_shown_until_there_is_an_answer(
    chat: Chat, upstream: Puppet
) -> None:
    async with chat() as screen:
        await screen.press(f"Tell me{ENTER}")
        await upstream.asked(1)
        upstream.say(PromptProgress(410, 1172))
        await screen.read("[reading 34 %]")
        upstream.say(PromptProgress(820, 1172))
        await screen.read("69")  # of what is there already nothing is written anew
        upstream.say("Once.").finish()
        await screen.read("Once.")
        await screen.read(PROMPT)
