"""chat.Chat of ChatGPT EasyBackend: an answer as bare text, then the ids to go on with."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from easybackend import chat_pb2 as pb

from server.core.conversations import Conversations
from server.core.ids import NEW
from server.core.turns.questions import EASYBACKEND, Ask
from server.live.turn import Delta, Ended
from server.transports.grpc.errors import ProblemError
from server.transports.grpc.handlers import Caller, Handler, Handlers
from server.transports.status import problem_of_turn
from storage.model import Turn

SERVICE = pb.DESCRIPTOR.services_by_name["Chat"].full_name

Responses = AsyncGenerator[pb.askresponse, None]


class EasyBackendService:
    """Knows no turns and no cursors: its callers read an answer once, as it comes."""

    def __init__(self, conversations: Conversations) -> None:
        self._conversations = conversations

    def methods(self, calls: Handlers) -> Mapping[str, Handler]:
        frame = pb.askresponse.SerializeToString
        return {"Ask": calls.stream(pb.askrequest, self.ask, frame)}

    async def ask(self, caller: Caller, asked: pb.askrequest) -> Responses:
        fresh = asked.conversation_id in ("", NEW)
        question = Ask(
            asked.prompt,
            parent_id=None if asked.parent_id in ("", NEW) else asked.parent_id,
            idempotency_key=caller.idempotency_key,
            wire=EASYBACKEND,
        )
        turn = await self._conversations.ask(caller.owner, asked.conversation_id, question)
        return self._answer(caller.owner, turn.id, with_ids=fresh or bool(asked.parent_id))

    async def _answer(self, owner: str, turn_id: str, *, with_ids: bool) -> Responses:
        async with aclosing(self._conversations.follow(owner, turn_id)) as events:
            async for event in events:
                match event:
                    case Delta(text=text) if text:
                        yield pb.askresponse(response=text)
                    case Ended():
                        _refuse_the_unfinished(event.turn)
                        if with_ids:
                            yield pb.askresponse(response=_end(event.turn))


def _end(turn: Turn) -> str:
    return f"<|end|>${turn.conversation_id}${turn.answer_id or ''}"


def _refuse_the_unfinished(turn: Turn) -> None:
    """End the call with an error where the answer did: these callers are told no status."""
    if (problem := problem_of_turn(turn)) is not None:
        raise ProblemError(problem)
