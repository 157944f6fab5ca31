"""The shapes of prompts that well-known models were trained on, by their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from server.templates.template import PLAIN, Template
from storage.model import PromptMessage, Role, text_of

_ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately completes "
    "the request."
)
_VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Headed(Template):
    """Every message stands under its role, and ends with a mark: chatml, llama3."""

    head: str
    end: str

    def render(self, messages: Sequence[PromptMessage]) -> str:
        parts = [
            f"{self.head.format(one.role.value)}{text_of(one.content)}{self.end}"
            for one in messages
        ]
        return "".join(parts) + self.head.format(Role.ASSISTANT.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoken(Template):
    """What systems say stands first, then questions and answers by turns: alpaca, vicuna."""

    system: str
    behind_system: str
    user: str
    behind_user: str
    #: what an answer stands behind; without the space that its first word brings
    assistant: str
    behind_assistant: str

    def render(self, messages: Sequence[PromptMessage]) -> str:
        system, spoken = _apart(messages)
        parts = [system or self.system, self.behind_system]
        for one in spoken:
            text = text_of(one.content)
            if one.role is Role.ASSISTANT:
                parts += [self.assistant, text, self.behind_assistant]
            else:
                parts += [self.user, text, self.behind_user]
        return "".join(parts) + self.assistant.rstrip(" ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Instructed(Template):
    """Questions stand in marks, the first with what systems say, answers behind them: Llama 2."""

    def render(self, messages: Sequence[PromptMessage]) -> str:
        system, spoken = _apart(messages)
        first = f"<<SYS>>\n{system}\n<</SYS>>\n\n" if system else ""
        parts: list[str] = []
        asked: list[str] = []
        for one in spoken:
            if one.role is not Role.ASSISTANT:
                asked.append(text_of(one.content))
                continue
            question = "\n\n".join(asked)
            answer = text_of(one.content)
            parts.append(f"[INST] {first}{question} [/INST] {answer} </s><s>")
            asked, first = [], ""
        question = "\n\n".join(asked)
        return "".join(parts) + f"[INST] {first}{question} [/INST]"


def _apart(messages: Sequence[PromptMessage]) -> tuple[str, list[PromptMessage]]:
    """Return what systems say, as one text, and the other messages."""
    system = [text_of(one.content) for one in messages if one.role is Role.SYSTEM]
    return "\n\n".join(system), [one for one in messages if one.role is not Role.SYSTEM]


SHAPES: Mapping[str, Template] = {
    "plain": PLAIN,
    "alpaca": Spoken(
        system=_ALPACA,
        behind_system="\n\n",
        user="### Instruction:\n",
        behind_user="\n\n",
        assistant="### Response:\n",
        behind_assistant="\n\n",
        stops=("\n### Instruction:", "\n### Response:"),
    ),
    "chatml": Headed(
        head="<|im_start|>{}\n",
        end="<|im_end|>\n",
        stops=("<|im_end|>", "<|im_start|>"),
    ),
    "vicuna": Spoken(
        system=_VICUNA,
        behind_system=" ",
        user="USER: ",
        behind_user=" ",
        assistant="ASSISTANT: ",
        behind_assistant="</s>",
        stops=("USER:", "</s>"),
    ),
    "llama": Instructed(stops=("</s>", "[INST]")),
    "llama3": Headed(
        head="<|start_header_id|>{}<|end_header_id|>\n\n",
        end="<|eot_id|>",
        stops=("<|eot_id|>", "<|end_of_text|>", "<|start_header_id|>"),
    ),
}
