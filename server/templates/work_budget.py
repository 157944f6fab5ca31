"""The work budget of an untrusted template, and the price of looking through a value."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from jinja2.exceptions import SecurityError
from jinja2.runtime import Undefined

from server.templates.template import TemplateError

#: steps that every rendering may take, one more for each character of its input, and at most
STEPS = 100_000
MOST_STEPS = 5_000_000
#: so many characters are made or looked through in one step
CHARACTERS_PER_STEP = 64


class WorkBudget:
    """The steps that are left to a rendering; `size` is how large its input is."""

    def __init__(self, size: int) -> None:
        self.left = min(STEPS + size, MOST_STEPS)

    def spend(self, steps: int) -> None:
        self.left -= steps
        if self.left < 0:
            raise TemplateError("The template does too much: a loop too long, or a text too large.")

    def look(self, value: Any, *, plain: bool = False) -> Any:
        """Pay for a value that is looked through or copied, and return it.

        A plain one is data through and through: it holds nothing that may be larger than it looks.
        Raises SecurityError for another, where it is to be plain.
        """
        self.spend(1)
        waiting = [value]
        while waiting:
            match waiting.pop():
                case str() as text:
                    self.spend(len(text) // CHARACTERS_PER_STEP)
                case list() | tuple() as items:
                    self.spend(len(items))
                    waiting += items
                case dict() as members:
                    self.spend(2 * len(members))
                    waiting += members
                    waiting += members.values()
                case int() | float() | Undefined() | None:
                    pass
                case _ if plain:
                    raise SecurityError("that cannot be written")
                case range() as numbers:
                    self.spend(len(numbers))
        return value


#: whose purse the template that is being rendered has
PURSE: ContextVar[WorkBudget] = ContextVar("purse")
