"""Reads templates: Jinja, or a text in which `%1` stands for the prompt."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from server.templates.template import Template, TemplateError
from storage.model import PromptMessage, Role, text_of

#: in characters
LONGEST = 16_000
_HERE = "%1"
_JINJA = re.compile(r"\{\{|\{%")
#: what a message adds to the steps that its rendering may take, besides its characters
_PER_MESSAGE = 50

Wrap = Callable[[str, str], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole(Template):
    """A template that goes through `messages` itself."""

    write: Callable[[Sequence[PromptMessage]], str]

    def render(self, messages: Sequence[PromptMessage]) -> str:
        return self.write(messages)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrapped(Template):
    """A template of one prompt: every question stands in it, and its answer behind.

    What systems say stands first, unless the template has a place of its own for it.
    """

    #: gives what wraps the prompts of a conversation, for so much of input
    begin: Callable[[int], Wrap]
    takes_system: bool = False

    def render(self, messages: Sequence[PromptMessage]) -> str:
        system = _system(messages)
        wrap = self.begin(_size(messages))
        parts = [f"{system}\n\n"] if system and not self.takes_system else []
        for one in messages:
            if one.role is Role.SYSTEM:
                continue
            text = text_of(one.content)
            if one.role is Role.ASSISTANT:
                close = bool(parts) and not parts[-1][-1:].isspace()
                parts.append(f"{' ' if close else ''}{text}\n")
            else:
                parts.append(wrap(text, system))
        return "".join(parts)


def is_template(source: str) -> bool:
    """Say whether a text is a template, and not the name of one."""
    return _HERE in source or _JINJA.search(source) is not None


def read(source: str) -> Template:
    """Return the template that a text is. Raises TemplateError."""
    if len(source) > LONGEST:
        raise TemplateError(f"A template may have at most {LONGEST} characters.")
    if not is_template(source):
        raise TemplateError(
            f"A template is Jinja ({{{{ prompt }}}}, or a loop over messages), or has {_HERE} "
            "where the prompt goes."
        )
    if _JINJA.search(source) is None:
        wrap: Wrap = lambda prompt, _: source.replace(_HERE, prompt)  # noqa: E731
        return Wrapped(begin=lambda _: wrap)
    return _jinja(source.replace(_HERE, "{{ prompt }}"))


@lru_cache(maxsize=64)
def _jinja(source: str) -> Template:
    # Only now: most servers never see a template, and jinja2 takes a while to load.
    from server.templates.sandbox import Compiled
    from server.templates.work_budget import WorkBudget

    compiled = Compiled(source)
    if "messages" in compiled.names:

        def write(messages: Sequence[PromptMessage]) -> str:
            return compiled.render(WorkBudget(_size(messages)), **_values(messages))

        return Whole(write=write, quick=False)
    if "prompt" not in compiled.names:
        raise TemplateError("The template must use messages, or prompt.")

    def begin(size: int) -> Wrap:
        budget = WorkBudget(size)
        return lambda prompt, system: compiled.render(
            budget, prompt=prompt, system_prompt=system, **_TOKENS
        )

    return Wrapped(begin=begin, takes_system="system_prompt" in compiled.names, quick=False)


#: what published templates expect; servers put the token of the beginning there themselves
_TOKENS = {"bos_token": "", "eos_token": "", "add_generation_prompt": True}


def _size(messages: Sequence[PromptMessage]) -> int:
    return sum(len(text_of(one.content)) + _PER_MESSAGE for one in messages)


def _values(messages: Sequence[PromptMessage]) -> dict[str, object]:
    asked = (text_of(one.content) for one in reversed(messages) if one.role is Role.USER)
    return {
        "messages": [{"role": one.role.value, "content": text_of(one.content)} for one in messages],
        "prompt": next(asked, ""),
        "system_prompt": _system(messages),
        **_TOKENS,
    }


def _system(messages: Sequence[PromptMessage]) -> str:
    return "\n\n".join(text_of(one.content) for one in messages if one.role is Role.SYSTEM)
