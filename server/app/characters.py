"""The characters and templates that the settings name, made ready for the core."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from server.config.settings import Settings
from server.core.prompt.characters import Character, Characters
from server.templates.parse import read


def shaping_of(settings: Settings, completes_only: Callable[[str], bool]) -> Characters:
    """Return who and what requests may name; the settings have seen that templates are sound."""
    characters = {
        name: Character(table.system_prompt, table.greeting, table.model)
        for name, table in settings.characters.items()
    }
    templates = {
        name: replace(read(table.template), stops=table.stop)
        for name, table in settings.templates.items()
    }
    return Characters(characters, templates, completes_only)
