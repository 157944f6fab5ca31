"""What Tab completes in a live chat: commands, ids of conversations, names of models."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document

from clients.commands import USAGE

#: Returns what may be given to a command, each with what is said of it.
Values = Callable[[], Iterable[tuple[str, str]]]


class Words(Completer):
    """Completes the name of a command, and what it is given where that can be known."""

    def __init__(self, values: dict[str, Values]) -> None:
        self._values = values

    def get_completions(self, document: Document, _: CompleteEvent) -> Iterator[Completion]:
        typed = document.text_before_cursor
        name, space, begun = typed.partition(" ")
        if not name.startswith("/"):
            return
        if not space:
            found: Iterable[tuple[str, str]] = ((one.split()[0], of) for one, of in USAGE.items())
            begun = name
        else:
            found = self._values.get(name, tuple)()
        for value, told in found:
            if value.startswith(begun):
                yield Completion(value, -len(begun), display_meta=told)
