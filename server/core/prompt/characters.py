"""The characters and templates there are, and which of them a request asks for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol, TypeVar

from server.core import validation
from server.core.errors import InvalidRequestError
from server.templates.parse import LONGEST, is_template, read
from server.templates.presets import SHAPES
from server.templates.template import PLAIN, Template, TemplateError
from server.tokens.models import model as known_model

T = TypeVar("T")
#: The configured template of this name is taken where a request names none.
DEFAULT = "default"


class Mode(StrEnum):
    """Whether a model is sent messages, or the one text that a template makes of them."""

    CHAT = "chat"
    INSTRUCT = "instruct"


@dataclass(frozen=True, slots=True)
class Character:
    """Who answers: what it is told of itself, what it says first, who writes its words."""

    system_prompt: str | None = None
    greeting: str | None = None
    model: str | None = None


class StyleRequest(Protocol):
    """What a request says of it; a template is a name, or a template itself."""

    @property
    def mode(self) -> Mode | None: ...
    @property
    def character(self) -> str | None: ...
    @property
    def instruction_template(self) -> str | None: ...
    @property
    def prompt_template(self) -> str | None: ...


def completes_only(name: str) -> bool:
    """Say whether a model is known to take no messages, only text."""
    return not known_model(name).chat


class Characters:
    """Knows characters and templates by name, regardless of case."""

    def __init__(
        self,
        characters: Mapping[str, Character] | None = None,
        templates: Mapping[str, Template] | None = None,
        completes_only: Callable[[str], bool] = completes_only,
    ) -> None:
        self._characters = dict(characters or {})
        self._templates = {**SHAPES, **(templates or {})}
        self._completes_only = completes_only

    async def check(self, expected: StyleRequest) -> None:
        """Refuse a wish for what there is not, or for a template that cannot be."""
        self.character(expected)
        await self._given(expected)

    def character(self, expected: StyleRequest) -> Character:
        """Return the character asked for; one of no qualities, where none is."""
        if expected.character is None:
            return Character()
        return _found(self._characters, expected.character, "character")

    async def template(self, expected: StyleRequest, model: str) -> Template | None:
        """Return how a prompt for a model is written as one text; None: it is sent as messages."""
        given = await self._given(expected)
        asked = expected.mode is Mode.INSTRUCT or (expected.mode is None and given is not None)
        if not asked and not self._completes_only(model):
            return None
        return given or self._templates.get(DEFAULT, PLAIN)

    async def _given(self, expected: StyleRequest) -> Template | None:
        if expected.prompt_template is not None and expected.instruction_template is not None:
            raise InvalidRequestError(
                "prompt_template and instruction_template exclude each other.", "prompt_template"
            )
        if expected.prompt_template is not None:
            return await _read(expected.prompt_template, "prompt_template")
        if expected.instruction_template is None:
            return None
        if is_template(expected.instruction_template):
            return await _read(expected.instruction_template, "instruction_template")
        found = _found(self._templates, expected.instruction_template, "instruction_template")
        return replace(found, param="instruction_template")


async def _read(source: str, param: str) -> Template:
    """Read a caller's template; on a thread, since it may take a while."""
    validation.short_text(source, param, LONGEST)
    try:
        template = await asyncio.to_thread(read, source)
    except TemplateError as error:
        raise InvalidRequestError(str(error), param) from None
    return replace(template, param=param)


def _found(known: Mapping[str, T], name: str, param: str) -> T:
    validation.name(name, param)
    by_name = {known_name.casefold(): one for known_name, one in known.items()}
    if (one := by_name.get(name.casefold())) is not None:
        return one
    there = f"only {', '.join(sorted(known))}" if known else "none at all"
    raise InvalidRequestError(
        f"There is no {param.replace('_', ' ')} {name!r}: there is {there}.", param
    )
