"""Where local models are loaded: one at a time, as many as may be, none beyond the memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog

from server.config.tables import LocalTable
from server.upstream.llama import memory
from server.upstream.llama.devices import gpu_memory
from server.upstream.llama.engine import Engine, default_threads
from server.upstream.llama.files.gguf import NotGGUFError
from server.upstream.llama.files.library import Entry, Library, ModelFileError
from server.upstream.llama.memory import NoMemoryError, Plan
from server.upstream.llama.process import Child, ChildError

log = structlog.get_logger("trialogue.local")

#: an unused model gives its memory back after `idle_unload`, and ends after so many times that
UNLOAD_FACTOR = 6
#: the share of what a model takes that is for prompts it has read before
_CACHE = 0.05


@dataclass(eq=False, slots=True)
class Loaded:
    """A model in a child, and how many calls are in it."""

    model: str
    child: Child
    plan: Plan
    #: of the running loop's clock, in seconds
    used_at: float
    running: int = 0
    #: another child has taken its place: it ends with the last call in it
    retired: bool = False
    #: it ended of itself
    broken: bool = False


class Host:
    """Loads models, ends them, and knows which of them are loaded."""

    def __init__(
        self,
        library: Library,
        engine: Engine,
        options: LocalTable,
        available: Callable[[int | None, int, int, int], int] = memory.available,
    ) -> None:
        self.library = library
        self._engine = engine
        self._options = options
        self._available = available
        self._loaded: list[Loaded] = []
        self._one_at_a_time = asyncio.Lock()
        self._freed = asyncio.Event()
        self._ending: set[asyncio.Task[None]] = set()

    async def load(self, name: str) -> Loaded:
        """Begin a child for a model and return it once it is ready.

        Raises ModelFileError, NotGGUFError or OSError for its file, NoMemoryError where it does
        not fit, ChildError where the child ends.
        """
        async with self._one_at_a_time:
            await self._make_place(name)
            entry = await asyncio.to_thread(self.library.entry, name)
            plan = await self._plan(entry)
            child = await self._begin(entry, plan)
            loaded = Loaded(name, child, plan, _now())
            self._loaded.append(loaded)
            child.ended.add_done_callback(lambda _: self._forget(loaded))
            _tell(loaded)
            return loaded

    def leave(self, loaded: Loaded) -> None:
        """Note that a call has left a child."""
        loaded.running -= 1
        loaded.used_at = _now()
        self._freed.set()
        if loaded.retired and not loaded.running:
            self._end_soon(loaded)

    def retire(self, loaded: Loaded) -> None:
        """Let a child end as soon as no call is in it."""
        loaded.retired = True
        if not loaded.running:
            self._end_soon(loaded)

    def unused_for(self, loaded: Loaded) -> float | None:
        """Return after how many seconds an unused child is ended; None: never."""
        idle = self._options.idle_unload
        return idle * UNLOAD_FACTOR if idle else None

    async def close(self) -> None:
        """End every child, with whatever is in it."""
        for loaded in [*self._loaded]:
            loaded.retired = True
            await loaded.child.close()
        if self._ending:
            await asyncio.wait(self._ending)

    async def _begin(self, entry: Entry, plan: Plan) -> Child:
        command = self._engine.command(self._options_of(entry, plan))
        # Whoever gives up in mid-beginning must not leave a process that nobody knows of.
        begun = asyncio.create_task(Child.begin(command, entry.name, str(entry.files[0])))
        try:
            child = await asyncio.shield(begun)
            await child.ready()
        except BaseException:
            await (await begun).close()
            raise
        return child

    def _options_of(self, entry: Entry, plan: Plan) -> dict[str, Any]:
        idle = self._options.idle_unload
        return {
            "model": str(entry.files[0]),
            "alias": entry.name,
            "context": plan.window,
            "parallel": plan.parallel,
            "threads": self._options.threads or default_threads(),
            "gpu_layers": self._options.gpu_layers,
            "sleep": max(1, round(idle)) if idle else -1,
            "cache": int(plan.bytes * _CACHE) >> 20,
            "embeddings": entry.header().embeds,
        }

    async def _make_place(self, name: str) -> None:
        """End the model that was used least recently where as many are loaded as may be."""
        while len(others := self._others(name)) >= self._options.keep_loaded:
            self._freed.clear()
            if not await self._end_least_recent(others):
                await self._freed.wait()  # never one with a running turn

    def _others(self, name: str) -> list[Loaded]:
        return [one for one in self._loaded if one.model != name and not one.retired]

    async def _end_least_recent(self, others: list[Loaded]) -> bool:
        """End the one that was used least recently; say whether there was one without a call."""
        idle = [one for one in others if not one.running]
        if not idle:
            return False
        least = min(idle, key=lambda one: one.used_at)
        least.retired = True
        log.info("local_model_ended", model=least.model, why="another one is loaded")
        await least.child.close()
        return True

    async def _plan(self, entry: Entry) -> Plan:
        """Return how a model is loaded into what is free; others give way where they can."""
        header = await asyncio.to_thread(entry.header)
        wished = {"context": self._options.context, "parallel": self._options.parallel}
        planned = partial(memory.plan, entry.name, entry.size, header, **wished)
        while True:
            try:
                free, gpu = await self._free()
                return await asyncio.to_thread(memory.fit, planned, free, gpu)
            except NoMemoryError:
                if not await self._end_least_recent(self._others(entry.name)):
                    raise

    async def _free(self) -> tuple[Callable[[int], int], Callable[[], int]]:
        """Return what tells how many bytes there are with those of GPUs, and how many those are.

        Models that sleep may want theirs back.
        """
        asked = [*self._loaded]
        told = await asyncio.gather(*(one.child.asleep() for one in asked))
        asleep = {one for one, sleeps in zip(asked, told, strict=True) if sleeps}
        taken = sum(one.plan.bytes for one in self._loaded)
        slept = sum(one.plan.bytes for one in self._loaded if one in asleep)
        free = partial(self._available, self._options.memory_limit, taken, slept)
        return free, partial(gpu_memory, self._options, self._engine.program, taken)

    def _forget(self, loaded: Loaded) -> None:
        self._loaded.remove(loaded)
        self._freed.set()
        if not loaded.retired:
            log.error("local_model_broke", model=loaded.model, why=loaded.child.why)
            loaded.broken = True
            self.retire(loaded)  # a call in it has still to see that it is gone

    def _end_soon(self, loaded: Loaded) -> None:
        task = asyncio.create_task(loaded.child.close())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)


def why(error: Exception) -> str:
    """Return why a model could not be loaded, without a path of this machine where there is one."""
    if isinstance(error, OSError):
        return error.strerror or "its file cannot be read"
    if isinstance(error, ModelFileError):
        return "its file is not there any more"
    return str(error)


#: what keeps a model from being loaded
REFUSALS = (ModelFileError, NotGGUFError, OSError, NoMemoryError, ChildError)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _tell(loaded: Loaded) -> None:
    plan = loaded.plan
    log.info(
        "local_model_loaded",
        model=loaded.model,
        pid=loaded.child.pid,
        window=plan.window,
        parallel=plan.parallel,
        bytes=plan.bytes,
    )
    if plan.wished is not None:
        log.warning(
            "local_model_window",
            model=loaded.model,
            window=plan.window,
            wished=plan.wished,
            why="there is not memory enough for more",
        )
