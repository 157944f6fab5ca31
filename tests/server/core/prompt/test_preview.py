"""What a preview says is what the upstream then gets, message by message."""

from __future__ import annotations

import random
from itertools import count

import pytest

from server.app.core import core_of
from server.core.conversations import Ask, Conversations, Defaults
from server.core.errors import ContextLengthError
from server.core.ids import Ids
from server.core.prompt.alternate import alternate
from server.core.prompt.compose import CountingSettings
from server.tokens import counting
from server.tokens.encoding import encoding
from storage.model import PromptMessage, Role
from storage.sqlite.store import SQLiteStore
from tests.server.core.histories import OWNER, History, keep, random_history, text
from tests.support.fakes import MODEL, Parrot
from tests.support.prompt_cost import prompt_cost

HISTORIES = 200
WINDOW = 900


@pytest.mark.slow
async def test_200_previews_are_what_is_sent(store: SQLiteStore) -> None:
    dice = random.Random(20261121)
    clock = count(1_000_000, 1000)
    ids = Ids(lambda: next(clock))
    parrot = Parrot(("Fine.",))
    defaults = Defaults(MODEL, None, CountingSettings(window=WINDOW))
    refused = 0
    async with core_of(store, parrot, defaults) as core:
        for number in range(HISTORIES):
            history = random_history(dice, ids, f"c{number}")
            await keep(store, history)
            question = Ask(text(dice, 40), max_tokens=dice.randrange(1, WINDOW - 100))
            refused += not await _previewed_and_sent(core, parrot, history, question)
    assert len(parrot.prompts) == HISTORIES - refused
    assert refused < HISTORIES / 2


async def _previewed_and_sent(
    core: Conversations, parrot: Parrot, history: History, question: Ask
) -> bool:
    name = history.conversation.id
    try:
        told = await core.preview(OWNER, name, question)
    except ContextLengthError:
        before = await core.get(OWNER, name)
        with pytest.raises(ContextLengthError):
            await core.ask(OWNER, name, question)
        assert await core.get(OWNER, name) == before
        return False
    turn = await core.ask(OWNER, name, question)
    await _end(core, turn.id)
    sent = parrot.prompts[-1]
    kept = [line for line in told.lines if line.kept]
    contents = {one.id: one.content for one in history.messages}
    alone = {Role.SYSTEM: history.conversation.system_prompt or "", Role.USER: question.content}
    said = [PromptMessage(one.role, contents.get(one.id or "") or alone[one.role]) for one in kept]
    assert alternate(said) == list(sent.messages)
    shape, tokens = counting.shape(MODEL), encoding("o200k_base")
    for line, message in zip(kept, said, strict=True):
        assert line.tokens == tokens.count(str(message.content))
        cost = counting.message_cost(shape, tokens, message.role, message.content)
        assert line.tokens + line.overhead == cost
    total = prompt_cost(shape, tokens, sent.messages)
    assert total == told.composed.prompt_tokens == turn.context.prompt_tokens
    assert total <= turn.context.budget == told.composed.window.budget
    assert told.remaining == turn.context.budget - total
    assert Role.TOOL not in {message.role for message in sent.messages}
    return True


async def _end(core: Conversations, turn_id: str) -> None:
    async for _ in core.follow(OWNER, turn_id):
        pass
