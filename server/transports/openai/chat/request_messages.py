"""What a client's messages tell where they join a conversation, and how they are sent on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from server.core.turns.placement import Utterance, same
from server.openai_protocol.messages import content_of, message_of, role_of
from storage.model import Content, PromptMessage, Role

Message = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RequestMessages:
    """The messages of a request, in its order.

    Instructions are messages of role `system` or `developer`: those that come first are the system
    prompt, those that come later are for this request alone. All others are said.
    """

    messages: Sequence[Message]

    @property
    def first(self) -> Sequence[Message]:
        return list(takewhile(_instructs, self.messages))

    @property
    def later(self) -> Sequence[Message]:
        return [one for one in self.messages[len(self.first) :] if _instructs(one)]

    @property
    def said(self) -> tuple[Utterance, ...]:
        return tuple(_said(one) for one in self.messages if not _instructs(one))

    @property
    def instructions(self) -> str:
        """The text of the system prompt; empty where there is none."""
        return "\n\n".join(_plain(content_of(one)) for one in self.first)

    def sent(self, prompt: Sequence[PromptMessage]) -> list[Message]:
        """Return what to send for a prompt that was composed of what was said, and more before it.

        What is in the prompt and in the request goes as it came, and later instructions stay where
        they were told; the rest of the prompt goes as it is kept.
        """
        kept, sent = list(prompt), []
        for one in reversed(self.messages[len(self.first) :]):
            if _instructs(one):
                sent.append(one)
            elif kept and same(_said(one), Utterance(kept[-1].role, kept[-1].content)):
                kept.pop()
                sent.append(one)
        return [*self._beginning(kept), *reversed(sent)]

    def _beginning(self, kept: Sequence[PromptMessage]) -> Sequence[Message]:
        match kept:
            case [PromptMessage(role=Role.SYSTEM, content=text), *rest] if (
                text and text == self.instructions
            ):
                return [*self.first, *map(message_of, rest)]
            case _:
                return [message_of(one) for one in kept]


def _instructs(message: Message) -> bool:
    return message["role"] in ("system", "developer")


def _said(message: Message) -> Utterance:
    return Utterance(role_of(message), content_of(message))


def _plain(content: Content) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(str(part.get("text") or "") for part in content)
