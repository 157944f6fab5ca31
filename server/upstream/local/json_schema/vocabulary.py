"""What a conversation offers to fill JSON with: its names, words, numbers and sentences."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

#: How much is looked at: the newest messages of the user, and their beginnings.
MESSAGES = 5
LETTERS = 2_000
_MOST_WORDS = 200

_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_NUMBER = re.compile(r"(?<![\w.])-?\d{1,15}(?:\.\d{1,15})?(?![\w]|\.\d)")
_NAME = re.compile(r"(?:[A-Z\u00c0-\u00de][^\W_]+)(?:\s+[A-Z\u00c0-\u00de][^\W_]+){0,3}")
_HUMP = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|\d+")


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


#: Words that say little by themselves.
_PLAIN = _set(
    """a about after again all also am an and any are as at be because been before but by can could
    did do does doing don't for from get give go had has have he hello her here hers hi him his how
    i i'm if in into is it it's its just let like make many may me mine more most must my need no
    not now of on one only or other our out over please she should so some such tell than thank
    thanks that the their them then there these they this those to too up us use very want was we
    were what what's when where which while who whom whose why will with would yes you
    your"""
)
#: Words that come behind a name which opens a sentence.
_TELLING = _set("is was has had lives lived works worked went said and")
#: Properties that ask for what the user said, or for an answer to it, rather than for a word.
_SAID = _set(
    "body content input instruction message prompt q query question request search sentence "
    "text topic utterance"
)
_ANSWERED = _set(
    "answer comment conclusion description explanation output reason reasoning reply response "
    "result summary thought thoughts"
)


@dataclass(frozen=True, slots=True)
class Words:
    """Words, names first, and numbers, in the order in which they are best used."""

    #: the newest message of the user, and what is answered to it
    said: str
    answer: str
    words: tuple[str, ...]
    numbers: tuple[float, ...] = ()

    def for_property(self, name: str, turn: int) -> list[str]:
        """Return texts for a property, the most fitting first; at least one."""
        parts = {part.lower() for part in _HUMP.findall(name)}
        whole = [self.said] if parts & _SAID else []
        whole += [self.answer] if parts & _ANSWERED else []
        start = turn % len(self.words)
        told = self._told(name)
        return [*told, *filter(None, whole), *self.words[start:], *self.words[:start]]

    def mentions(self, text: str) -> bool:
        """Say whether the newest message has this text as words of its own."""
        if not text or text.lower() not in self.said.lower():
            return False
        found = re.search(rf"(?<!\w){re.escape(text)}(?!\w)", self.said, re.IGNORECASE)
        return found is not None

    def _told(self, name: str) -> list[str]:
        """Return what the newest message says outright that this property is."""
        if not name or name.replace("_", " ").lower() not in self.said.lower():
            return []
        told = re.escape(name.replace("_", " ")) + r"\s*(?:is|are|=|:)\s*[\"']?([^\W_][\w.@+-]*)"
        found = re.search(rf"\b{told}", self.said, re.IGNORECASE)
        return [found[1].rstrip(".")] if found else []


def words_of(said: Sequence[str], answer: str) -> Words:
    """Gather the words of what the user said, oldest first, and of the answer to it."""
    newest = [text[:LETTERS] for text in reversed(said[-MESSAGES:])]
    found = [word for text in newest for word in [*_names(text), *_longest(text)]]
    numbers = [float(number) for text in newest for number in _NUMBER.findall(text)]
    return Words(
        said=newest[0].strip() if newest else "",
        answer=answer,
        words=tuple(dict.fromkeys(found))[:_MOST_WORDS] or ("Eliza",),
        numbers=tuple(dict.fromkeys(numbers)),
    )


def _names(text: str) -> list[str]:
    """Return what is written with capitals, in its order, without plain words before it."""
    names = []
    for found in _NAME.finditer(text):
        words = found.group().split()
        while words and words[0].lower() in _PLAIN:
            words = words[1:]
        before, after = text[: found.start()].rstrip(), text[found.end() :].split(maxsplit=1)[:1]
        opens = len(words) == len(found.group().split()) and before[-1:] in ("", ".", "!", "?", ":")
        # "Jason is …" opens with a name, "Extract the …" with something else.
        if words and not (opens and len(words) == 1 and not _TELLING.intersection(after)):
            names.append(" ".join(words))
    return names


def _longest(text: str) -> list[str]:
    words = [word for word in _WORD.findall(text) if word.lower() not in _PLAIN]
    return sorted(dict.fromkeys(words), key=len, reverse=True)
