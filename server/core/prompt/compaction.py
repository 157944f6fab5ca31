"""Summaries of what leaves the window, written in the background after a turn, on request."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing

import structlog

from server.config.limits import UpstreamLimits
from server.core.ids import Ids
from server.core.prompt.compose import Composer, PromptRequest
from server.core.prompt.weigh import Scale
from server.core.prompt.window import Weighed, trim, turn_ends
from server.openai_protocol.messages import calls_in
from server.upstream.model_info import Named
from server.upstream.port import Finish, Prompt, Upstream, UpstreamError
from storage.model import Conversation, Message, PromptMessage, Role, Status, Turn, text_of
from storage.parts import Kind, Part
from storage.port import Store, StoreError

log = structlog.get_logger("trialogue.compaction")

#: A turn that fills this share of its budget is followed by a compaction…
FULL = 0.75
#: …after which what is not summarised fills at most this share.
KEPT = 0.5
#: Tokens of a summary at most.
SUMMARY_TOKENS = 800
#: Below this budget each summary would read a message or two: it is not begun.
LEAST_BUDGET = 1000
#: Seconds until the next try at an upstream where one failed, doubled with each, and at most.
BACK_OFF, LONGEST_BACK_OFF = 30.0, 3600.0
#: Tokens of a prompt that the instruction and what goes with it take, and a few to spare.
ALLOWANCE = 100

INSTRUCTION = (
    "Summarise this part of a conversation for your own later use, so that it can go on without "
    "the original words. Keep names, numbers, decisions, open questions and what the user wants. "
    "Write plain sentences in the language of the conversation, and nothing else."
)


class Compaction:
    """Owns a task for each conversation that is being summarised: never in the path of a turn.

    Few are written at once, the others wait: what asks has places of its own, and loses none to it.

    A summary hangs under the last message that it stands for, beside the message that follows:
    the originals stay, and `truncation: "trim"` makes the summaries as if they were not.
    """

    def __init__(
        self,
        store: Store,
        upstream: Upstream,
        composer: Composer,
        ids: Ids,
        limits: UpstreamLimits,
    ) -> None:
        self._at_once = asyncio.Semaphore(limits.summaries)
        self._store = store
        self._upstream = upstream
        self._composer = composer
        self._ids = ids
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}
        #: by upstream: who is near has one at a time
        self._at: dict[str, asyncio.Task[None]] = {}
        self._failed: dict[str, tuple[int, float]] = {}

    def give_way(self, to: Named) -> None:
        """Stop what an upstream that is near writes in the background: somebody asks it."""
        if (task := self._at.get(to.upstream)) is not None:
            task.cancel()

    def consider(self, owner: str, turn: Turn) -> None:
        """Begin to summarise where a turn's prompt was near the budget, or trimmed."""
        place, named = (owner, turn.conversation_id), self._composer.named(turn.model)
        sent = turn.context
        full = sent.messages_trimmed or sent.prompt_tokens > FULL * sent.budget
        full = full and sent.budget >= LEAST_BUDGET and turn.status is Status.COMPLETED
        busy = place in self._tasks or named.upstream in self._at or self._rests(named)
        if full and not busy:
            task = asyncio.create_task(self._compact(owner, turn, named), name="compaction")
            self._tasks[place] = task
            if named.near or not named.upstream:
                self._at[named.upstream] = task
            task.add_done_callback(lambda _: self._done(place, named))

    def _done(self, place: tuple[str, str], named: Named) -> None:
        task = self._tasks.pop(place)
        if self._at.get(named.upstream) is task:
            del self._at[named.upstream]

    def _rests(self, named: Named) -> bool:
        _, until = self._failed.get(named.upstream, (0, 0.0))
        return asyncio.get_running_loop().time() < until

    def _note(self, named: Named, *, failed: bool) -> None:
        """Leave an upstream alone for a while where a summary failed, longer each time."""
        if not failed:
            self._failed.pop(named.upstream, None)
            return
        times, _ = self._failed.get(named.upstream, (0, 0.0))
        wait = min(BACK_OFF * (1 << min(times, 10)), LONGEST_BACK_OFF)
        until = asyncio.get_running_loop().time() + wait
        self._failed[named.upstream] = times + 1, until

    async def idle(self) -> None:
        """Wait until nothing is being summarised."""
        while self._tasks:
            await asyncio.wait(set(self._tasks.values()))

    async def close(self) -> None:
        """Stop at once; what was not summarised will be after a later turn."""
        for task in list(self._tasks.values()):
            task.cancel()
        await self.idle()

    async def _compact(self, owner: str, turn: Turn, named: Named) -> None:
        try:
            there = await self._store.conversation(owner, turn.conversation_id)
            if there.truncation == "summarize" and there.head_id is not None:
                async with self._at_once:
                    await self._summarise(owner, there, turn)
                self._note(named, failed=False)
        except (UpstreamError, StoreError) as error:
            self._note(named, failed=isinstance(error, UpstreamError))
            log.warning("compaction failed", turn=turn.id, error=type(error).__name__)

    async def _summarise(self, owner: str, there: Conversation, turn: Turn) -> None:
        scale = await self._composer.scale(turn.model)
        room = int(KEPT * turn.context.budget)
        request = PromptRequest(owner, there.id, there.head_id, "", turn.model)
        history = [weighed async for weighed in self._composer.history(request, scale, room)]
        left = history[max(len(trim(history, room)), _opened(history)) :]
        if not left:
            return
        before, unread = await self._unread(owner, there.id, left[0].message)
        while unread:
            chunk = await self._chunk(scale, unread, room - ALLOWANCE)
            text = await self._ask(turn, before, chunk)
            if not text.strip():
                return
            before = await self._keep(owner, turn.model, scale, chunk[-1].message, text)
            unread = unread[len(chunk) :]

    async def _unread(
        self, owner: str, conversation_id: str, last: Message
    ) -> tuple[Message | None, Sequence[Message]]:
        """Return the summary to go on from, and what it does not stand for, oldest first."""
        known = {
            summary.parent_id: summary
            for summary in await self._store.summaries(owner, conversation_id, limit=100)
        }
        unread: list[Message] = []
        leaf: str | None = last.id
        while leaf is not None:
            for message in await self._store.branch(owner, conversation_id, leaf, limit=200):
                if message.id in known:
                    return known[message.id], unread[::-1]
                unread.append(message)
                leaf = message.parent_id
        return None, unread[::-1]

    async def _chunk(self, scale: Scale, unread: Sequence[Message], room: int) -> Sequence[Weighed]:
        """Return as many of the oldest messages as one request takes, one at least."""
        chunk: list[Weighed] = []
        for message in unread:
            weighed = await scale.weigh(message)
            room -= weighed.cost
            if room < 0 and chunk:
                break
            chunk.append(weighed)
        return chunk

    async def _ask(self, turn: Turn, before: Message | None, chunk: Sequence[Weighed]) -> str:
        """Have a summary written; it is as long as what is reserved for answers, at most."""
        model, sent = turn.model, turn.context
        most = sent.budget - ALLOWANCE
        reserved = max(1, min(SUMMARY_TOKENS, sent.window - sent.budget))
        told = [f"Summary so far:\n{before.content}"] if before else []
        told += [f"{one.message.role}: {text_of(one.message.content)}" for one in chunk]
        scale = await self._composer.scale(model)
        transcript = "\n\n".join(told)
        while (
            scale.scaled(await scale.count(transcript)) > most
        ):  # one message longer than a window
            transcript = transcript[: len(transcript) * 3 // 4]
        messages = (PromptMessage(Role.SYSTEM, INSTRUCTION), PromptMessage(Role.USER, transcript))
        prompt = Prompt(model, messages, max_tokens=reserved)
        pieces: list[str] = []
        is_text = True
        async with aclosing(self._upstream.complete(prompt)) as answer:  # type: ignore[type-var]
            async for piece in answer:
                match piece:
                    case Finish():
                        break
                    case Part(kind=kind):
                        is_text = kind is Kind.TEXT
                    case str() if is_text:
                        pieces.append(piece)
        return "".join(pieces)

    async def _keep(
        self, owner: str, model: str, scale: Scale, last: Message, text: str
    ) -> Message:
        summary = Message(
            id=self._ids.new("msg"),
            conversation_id=last.conversation_id,
            parent_id=last.id,
            role=Role.SYSTEM,
            content=text,
            tokens=await scale.count(text),
            encoding=scale.encoding.name,
            model=model,
            turn_id=None,
            created_at=self._ids.now(),
            stands_for=last.depth,
        )
        return await self._store.summarise(owner, summary)


def _opened(history: Sequence[Weighed]) -> int:
    """Return how many of the newest messages are of a question whose calls wait for results."""
    if not history or not calls_in(history[0].message.content):
        return 0
    return next(iter(turn_ends(history)), len(history))
