"""Local models by the real engine: loaded once, broken, reloaded, put to sleep, refused."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from server.config.tables import LocalTable
from server.upstream.llama.engine import Engine
from server.upstream.llama.files.library import Library
from server.upstream.llama.host import Host
from server.upstream.llama.local_model import CALLS, RESTARTS, LocalModel
from server.upstream.port import (
    Call,
    Finish,
    Prompt,
    UpstreamFailedError,
    UpstreamRejectedError,
)
from storage.model import PromptMessage, Role
from tests.server.upstream.llama.making import Make
from tests.support.live import ROOT


def prompt(text: str = "Hello", most: int | None = 8) -> Prompt:
    return Prompt("any", (PromptMessage(Role.USER, text),), max_tokens=most, temperature=0.0)


async def answer(model: LocalModel, text: str = "Hello", most: int | None = 8) -> str:
    """Return an answer that came to its end."""
    said: list[str] = []
    finish: Finish | None = None
    async for piece in model.complete(prompt(text, most)):
        if isinstance(piece, Finish):
            finish = piece
        else:
            said.append(str(piece))
    assert finish is not None
    assert finish.usage is not None
    return "".join(said)


async def status(model: LocalModel) -> str:
    (listed,) = await model.models()
    assert (listed["id"], listed["owned_by"]) == (model.name, "local")
    return str(listed["status"])


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    while not await holds():
        await asyncio.sleep(0.02)


def pid(model: LocalModel) -> int:
    return int(model.state()["pid"])


async def gone(process: int) -> None:
    """Wait until a process is no more."""

    async def ended() -> bool:
        try:
            return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            return True

    await until(ended)


async def test_who_asks_while_it_is_loaded_waits_and_it_is_loaded_once(local: Make) -> None:
    model = local()
    assert await status(model) == "installed"
    answers = await asyncio.gather(*(answer(model) for _ in range(4)))
    assert len(set(answers)) == 1  # nothing is left to chance at temperature 0
    first = pid(model)
    await answer(model)
    assert pid(model) == first
    assert await status(model) == "loaded"


async def test_a_call_passes_as_it_is(local: Make) -> None:
    model = local()
    body = b'{"model": "one", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3}'
    async with model.call(Call("POST", "/chat/completions", body=body, model="one")) as reply:
        assert reply.status == 200
        data = b"".join([piece async for piece in reply.body])
    assert b'"chat.completion"' in data
    assert model.state()["running"] == 0


async def test_nobody_comes_in_without_its_random_key(local: Make) -> None:
    model = local()
    await answer(model)
    listening = Path(f"/proc/{pid(model)}/cmdline").read_bytes()
    assert b"key" not in listening.lower()
    port = _port(pid(model))
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as stranger:
        for path in ("/v1/models", "/props", "/slots"):
            assert (await stranger.get(path)).status_code == 401


def _port(process: int) -> int:
    """Return the port that a process listens on, on this machine's own address alone."""
    sockets = set()
    for file in Path(f"/proc/{process}/fd").iterdir():
        target = str(file.readlink())
        if target.startswith("socket:["):
            sockets.add(target[8:-1])
    rows = [line.split() for line in Path(f"/proc/{process}/net/tcp").read_text().splitlines()[1:]]
    (address,) = [row[1] for row in rows if row[9] in sockets and row[3] == "0A"]
    host, _, port = address.partition(":")
    assert host == "0100007F"
    return int(port, 16)


async def test_an_answer_that_is_given_up_frees_its_place(local: Make) -> None:
    model = local(parallel=1)
    async with aclosing(model.complete(prompt(most=1500))) as pieces:
        await anext(pieces)
        assert model.state()["running"] == 1
    assert model.state()["running"] == 0
    await answer(model)


async def test_a_child_that_is_killed_within_an_answer_ends_that_and_no_other(
    local: Make,
) -> None:
    model = local()
    async with aclosing(model.complete(prompt(most=1500))) as pieces:
        await anext(pieces)
        killed = pid(model)
        os.kill(killed, signal.SIGKILL)
        with pytest.raises(UpstreamFailedError, match=r"broke while it answered: .*SIGKILL"):
            async for _ in pieces:
                pass
    await answer(model)
    assert pid(model) != killed


async def test_a_child_that_is_killed_while_nobody_asks_is_begun_anew(local: Make) -> None:
    model = local()
    await answer(model)
    killed = pid(model)
    os.kill(killed, signal.SIGKILL)
    await gone(killed)

    async def again() -> bool:
        return bool(model.state()["loaded"]) and pid(model) != killed

    await until(again)
    await answer(model)


async def test_an_ask_that_finds_the_child_dead_is_asked_of_the_next(local: Make) -> None:
    model = local()
    await answer(model)
    os.kill(pid(model), signal.SIGKILL)
    await answer(model)  # at once: the end was not seen yet


async def test_what_breaks_again_and_again_is_given_up_with_the_reason(
    local: Make, tmp_path: Path
) -> None:
    program, begun = tmp_path / "llama-server", tmp_path / "begun"
    program.write_text(f"#!/bin/sh\necho x >>{begun}\necho 'GGML_ASSERT: bad' >&2\nkill -9 $$\n")
    program.chmod(0o755)
    model = local(engine=Engine(program))
    with pytest.raises(UpstreamFailedError, match="GGML_ASSERT: bad"):
        await answer(model)
    assert len(begun.read_text().split()) == 1 + RESTARTS
    with pytest.raises(UpstreamFailedError, match="GGML_ASSERT: bad"):
        await answer(model)
    assert len(begun.read_text().split()) == 1 + RESTARTS  # not at each ask


async def test_a_file_that_is_damaged_is_refused_with_the_reason(
    local: Make, library: Library
) -> None:
    path = library.path("one")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UpstreamFailedError, match="cut short"):
        await answer(local())


async def test_a_file_that_the_engine_refuses_is_refused_in_its_words(
    local: Make, library: Library
) -> None:
    path = library.path("one")
    path.write_bytes(path.read_bytes().replace(b"blk.1.ffn_up.weight", b"blk.1.ffn_XX.weight"))
    with pytest.raises(UpstreamFailedError, match=r"error loading model: .*blk\.1\.ffn_up"):
        await answer(local())


async def test_a_reload_lets_running_answers_end(local: Make) -> None:
    model = local()
    async with aclosing(model.complete(prompt(most=1500))) as pieces:
        await anext(pieces)
        old = pid(model)
        await model.reload()
        assert pid(model) != old
        await answer(model)  # the new one answers meanwhile
        rest = [piece async for piece in pieces]
        assert isinstance(rest[-1], Finish)
    await gone(old)
    await answer(model)


async def test_reload_in_a_request_loads_anew_before_it_is_answered(local: Make) -> None:
    model = local()
    await answer(model)
    old = pid(model)
    body = (
        b'{"model":"one","reload":true,"max_tokens":2,"messages":[{"role":"user","content":"x"}]}'
    )
    async with model.call(Call("POST", "/chat/completions", body=body, model="one")) as reply:
        assert reply.status == 200
        assert pid(model) != old


async def test_reload_in_an_ask_loads_anew_before_it_is_answered(local: Make) -> None:
    model = local()
    await answer(model)
    old = pid(model)
    asked = replace(prompt(), extra={"reload": True, "top_k": 5})
    assert isinstance([piece async for piece in model.complete(asked)][-1], Finish)
    assert pid(model) != old


async def test_a_reload_that_fails_leaves_what_was_there(local: Make, library: Library) -> None:
    model = local()
    await answer(model)
    old = pid(model)
    library.path("one").rename(library.folder / "elsewhere")
    with pytest.raises(UpstreamFailedError, match="not there any more"):
        await model.reload()
    await answer(model)
    assert pid(model) == old


async def test_an_unused_one_sleeps_wakes_and_ends(local: Make) -> None:
    model = local(idle_unload=1)
    await answer(model)

    async def asleep() -> bool:
        return await status(model) == "asleep"

    async def ended() -> bool:
        return await status(model) == "installed"

    await until(asleep)
    process = pid(model)
    await answer(model)
    assert pid(model) == process
    await until(ended)
    await gone(process)
    await answer(model)


async def test_the_least_recently_used_gives_way_and_never_one_that_answers(local: Make) -> None:
    one, two = local("one", keep_loaded=1), local("two")
    async with aclosing(one.complete(prompt(most=1500))) as pieces:
        await anext(pieces)
        waiting = asyncio.create_task(answer(two))
        rest = [piece async for piece in pieces]
        assert isinstance(rest[-1], Finish)  # it was let come to its end
        assert not waiting.done()
    await waiting
    assert await status(one) == "installed"
    assert await status(two) == "loaded"


async def test_a_model_that_does_not_fit_is_refused_with_the_numbers(local: Make) -> None:
    model = local(available=lambda *_: 1_000_000)
    with pytest.raises(
        UpstreamFailedError, match=r"needs 3 MB of memory .* 2,048 tokens, and 1 MB are free"
    ):
        await answer(model)


async def test_its_window_is_made_smaller_where_memory_is_short(local: Make) -> None:
    model = local(available=lambda *_: 4_000_000, context=8192)
    await answer(model)
    (listed,) = await model.models()
    assert 2048 <= listed["meta"]["n_ctx"] < 8192
    assert model.state()["window"] == listed["meta"]["n_ctx"]


async def test_a_model_may_lie_in_a_gpu_where_the_machine_has_no_room(local: Make) -> None:
    model = local(available=lambda _limit, _taken, _asleep, gpu: gpu, gpu_memory=8_000_000)
    await answer(model)
    assert model.state()["loaded"]


async def test_a_prompt_that_is_longer_than_its_window_is_refused(local: Make) -> None:
    model = local(context=256, parallel=1)
    with pytest.raises(UpstreamRejectedError, match="context"):
        await answer(model, "long " * 400)
    await answer(model)


async def test_an_answer_that_nobody_bounds_ends(local: Make) -> None:
    assert len((await answer(local(context=512), most=None)).encode()) > 8


async def test_it_goes_behind_the_server_where_there_is_too_little_of_anything(
    local: Make,
) -> None:
    model = local()
    await answer(model)
    assert Path(f"/proc/{pid(model)}/oom_score_adj").read_text().strip() == "500"
    assert os.getpriority(os.PRIO_PROCESS, pid(model)) == os.getpriority(os.PRIO_PROCESS, 0) + 5


async def test_a_secret_of_ours_is_nothing_to_it(
    local: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk_1234")
    monkeypatch.setenv("HF_TOKEN", "hf_1234")
    model = local()
    await answer(model)
    assert b"_1234" not in Path(f"/proc/{pid(model)}/environ").read_bytes()


async def test_the_program_serves_as_the_wheel_does(local: Make, tmp_path: Path) -> None:
    program = tmp_path / "llama-server"
    program.write_text(
        f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m tests.support.llama_program "$@"\n'
    )
    program.chmod(0o755)
    model = local(engine=Engine(program))
    await answer(model)
    inner = pid(model)
    assert b"llama_program" in Path(f"/proc/{inner}/cmdline").read_bytes()
    assert model.state()["rss"] > 0
    await model.reload()  # ends the one that was there, and its program with it
    await gone(inner)
    inner = pid(model)
    leash = int(Path(f"/proc/{inner}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(leash, signal.SIGKILL)
    await gone(inner)
    await answer(model)


async def test_a_child_that_breaks_while_it_is_loaded_is_begun_anew(
    local: Make, tmp_path: Path
) -> None:
    program, begun = tmp_path / "llama-server", tmp_path / "begun"
    program.write_text(
        f"#!/bin/sh\nif [ ! -e {begun} ]; then touch {begun}; kill -9 $$; fi\n"
        f'PYTHONPATH={ROOT} exec {sys.executable} -m tests.support.llama_program "$@"\n'
    )
    program.chmod(0o755)
    await answer(local(engine=Engine(program)))
    assert begun.exists()


async def test_who_gives_up_waiting_leaves_it_to_be_loaded_for_others(local: Make) -> None:
    model = local()
    asking = asyncio.create_task(answer(model))
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait([asking])
    assert asking.cancelled()
    await answer(model)
    assert model.state()["running"] == 0


async def test_closing_while_it_is_loaded_leaves_no_process(local: Make, tmp_path: Path) -> None:
    program, begun = tmp_path / "llama-server", tmp_path / "pid"
    program.write_text(
        f"#!/bin/sh\necho $$ >{begun}\nexec sleep 600\n"
    )  # never says that it listens
    program.chmod(0o755)
    model = local(engine=Engine(program))
    model.begin()

    async def there() -> bool:
        return begun.exists() and begun.read_text().endswith("\n")

    await until(there)
    await model.close()
    await gone(int(begun.read_text()))


async def test_one_that_is_stopped_is_ended_all_the_same(local: Make) -> None:
    model = local()
    await answer(model)
    old = pid(model)
    os.kill(old, signal.SIGSTOP)
    await model.reload()
    await gone(old)
    await answer(model)


class GivenUp(Engine):
    """An engine whose asker gives up in the moment in which the child is begun."""

    def command(self, options: Mapping[str, Any]) -> list[str]:
        (loading,) = (one for one in asyncio.all_tasks() if one.get_name() == "loading")
        asyncio.get_running_loop().call_soon(loading.cancel)
        return super().command(options)


async def test_giving_up_while_a_child_is_begun_leaves_no_process(library: Library) -> None:
    host = Host(library, GivenUp(None), LocalTable(context=512, threads=1))
    loading = asyncio.create_task(host.load("one"), name="loading")
    await asyncio.wait([loading])
    assert loading.cancelled()
    me = os.getpid()
    children = Path(f"/proc/{me}/task/{me}/children").read_text().split()
    for one in children:
        assert b"child.py" not in Path(f"/proc/{one}/cmdline").read_bytes()


async def test_what_stops_a_service_does_not_end_it_before_its_turns(local: Make) -> None:
    model = local()
    async with aclosing(model.complete(prompt(most=1500))) as pieces:
        await anext(pieces)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(pid(model), number)
        rest = [piece async for piece in pieces]
        assert isinstance(rest[-1], Finish)


async def test_where_its_file_lies_is_nobody_s_to_know(local: Make, tmp_path: Path) -> None:
    program = tmp_path / "llama-server"
    program.write_text('#!/bin/sh\necho "error: failed to load model from $2" >&2\nexit 1\n')
    program.chmod(0o755)
    with pytest.raises(UpstreamFailedError, match="failed to load model from one") as refused:
        await answer(local(engine=Engine(program)))
    assert str(tmp_path) not in str(refused.value)


async def test_what_breaks_every_child_is_not_asked_again_and_again(
    local: Make, tmp_path: Path
) -> None:
    program, begun = tmp_path / "llama-server", tmp_path / "begun"
    program.write_text(
        f"#!/bin/sh\necho x >>{begun}\n"
        f'PYTHONPATH={ROOT} exec {sys.executable} -m tests.support.poisoned_program "$@"\n'
    )
    program.chmod(0o755)
    model = local(engine=Engine(program))
    await answer(model)
    with pytest.raises(UpstreamFailedError, match="broke while it answered"):
        await answer(model, "poison")
    assert len(begun.read_text().split()) <= 1 + CALLS
    await answer(model)  # others are answered


async def test_one_that_did_not_fit_is_loaded_as_soon_as_it_does(local: Make) -> None:
    free = [0]
    model = local(available=lambda *_: free[0])
    with pytest.raises(UpstreamFailedError, match="0 MB are free"):
        await answer(model)
    free[0] = 1 << 40
    await answer(model)


async def test_a_call_that_is_in_a_child_when_it_breaks_sees_that_and_nothing_else(
    local: Make,
) -> None:
    model = local()
    await answer(model)
    killed = pid(model)
    async with model._used() as loaded:  # it has come in, and has sent nothing yet
        os.kill(killed, signal.SIGKILL)
        await asyncio.wait([loaded.child.ended])
        await answer(model)  # time enough for all that follows of it
        with pytest.raises(UpstreamFailedError):
            async for _ in loaded.child.upstream.complete(prompt()):
                pass
        with pytest.raises(UpstreamFailedError):
            async with loaded.child.speaker.call(Call("GET", "/models")):
                pass
