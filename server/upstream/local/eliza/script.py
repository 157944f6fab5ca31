"""ELIZA's script: keywords, decompositions and reassemblies, read from the text file beside it.

The notation is told at the head of `script.txt`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

#: Where each kept element of a decomposition begins and ends, in words.
Spans = tuple[tuple[int, int], ...]

#: What a script must have besides its keywords, because the algorithm asks for it by name.
_FAMILIES = ("cue", "joiner", "subject", "lead", "plain")
_OCCASIONS = ("opening", "fallback", "wordless", "foreign", "picture")


class ScriptError(ValueError):
    """A script cannot be read; the text says where and why."""


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a decomposition: any word where `options` is None."""

    options: frozenset[str] | None
    kept: bool


@dataclass(frozen=True, slots=True)
class Stretch:
    """Words that stand together, after a gap of at least `gap` words; None allows no gap at all."""

    gap: int | None
    words: tuple[Word, ...]


@dataclass(frozen=True, slots=True)
class Say:
    """Text to say; a number stands for what that kept element matched, counted from 1."""

    parts: tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Link:
    """Go on with the keyword that has this word."""

    word: str


@dataclass(frozen=True, slots=True)
class Substitutions:
    """Words to put right or to turn round: one or two of them, and what they become."""

    pairs: Mapping[tuple[str, ...], tuple[str, ...]]
    #: the first words of all that is substituted
    heads: frozenset[str]


@dataclass(frozen=True, slots=True)
class Rule:
    """A decomposition, and the reassemblies used in turn for it; `number` tells rules apart."""

    number: int
    pattern: tuple[Stretch, ...]
    reassemblies: tuple[Say | Link, ...]
    #: a phrase can only fit that has a word of each of these
    needs: tuple[frozenset[str], ...]

    def may_fit(self, words: frozenset[str]) -> bool:
        """Say, quickly, whether these words are worth taking apart."""
        return not any(map(words.isdisjoint, self.needs))


@dataclass(frozen=True, slots=True)
class Occasion:
    """Lines used in turn where no keyword is asked for."""

    number: int
    lines: tuple[Say, ...]


@dataclass(frozen=True, slots=True)
class Keyword:
    """Words that ELIZA listens for, and what she makes of the phrase around them."""

    words: tuple[str, ...]
    rank: int
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class Script:
    """Everything that ELIZA knows."""

    pre: Substitutions
    post: Substitutions
    families: Mapping[str, frozenset[str]]
    keywords: Mapping[str, Keyword]
    memory: Keyword
    occasions: Mapping[str, Occasion]


@dataclass(slots=True)
class _Section:
    kind: str
    names: list[str]
    lines: list[tuple[int, str]] = field(default_factory=list)


@cache
def doctor() -> Script:
    """Read the script that comes with the server."""
    return read(files(__package__).joinpath("script.txt").read_text(encoding="utf-8"))


def read(text: str) -> Script:
    """Read a script. Raises ScriptError with the line at fault."""
    return _SectionReader(list(_sections(text))).script()


def decompose(pattern: Sequence[Stretch], words: Sequence[str]) -> Spans | None:
    """Return what a decomposition keeps of these words, or None where it does not fit.

    Each stretch takes the first place that it fits, which finds a fit wherever there is one,
    since gaps have no upper bound: no going back, and time linear in the words.
    """
    spans: list[tuple[int, int]] = []
    at = 0
    for stretch in pattern:
        start = _place(stretch, words, at, last=stretch is pattern[-1])
        if start is None:
            return None
        if stretch.gap:
            spans.append((at, start))
        spans += ((start + n, start + n + 1) for n, word in enumerate(stretch.words) if word.kept)
        at = start + len(stretch.words)
    return tuple(spans)


def _place(stretch: Stretch, words: Sequence[str], at: int, *, last: bool) -> int | None:
    room = len(words) - len(stretch.words)
    places = range(at, min(at, room) + 1)
    if stretch.gap is not None:
        places = range(at + stretch.gap, room + 1)
    if last:
        places = range(room, room + 1) if room in places else range(0)
    return next((start for start in places if _fits(stretch.words, words, start)), None)


def _fits(pattern: Sequence[Word], words: Sequence[str], start: int) -> bool:
    return all(
        word.options is None or words[start + n] in word.options for n, word in enumerate(pattern)
    )


def _sections(text: str) -> Iterator[_Section]:
    section: _Section | None = None
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            if section is not None:
                yield section
            kind, *names = line.strip("[]").split()
            section = _Section(kind, names)
        elif section is None:
            raise ScriptError(f"line {number}: nothing may stand before the first [section]")
        else:
            section.lines.append((number, line))
    if section is not None:
        yield section


class _SectionReader:
    """Turns sections into a script; numbers its rules as it goes."""

    def __init__(self, sections: list[_Section]) -> None:
        self._sections = sections
        self._rules = 0
        self._pre = self._pairs("pre")
        self._families = {
            section.names[0]: frozenset(word for _, line in section.lines for word in line.split())
            for section in sections
            if section.kind == "family"
        }

    def script(self) -> Script:
        keywords: dict[str, Keyword] = {}
        for section in self._of("key"):
            rank, *words = section.names or [""]
            if not rank.isdecimal():
                raise ScriptError(f"[key {' '.join(section.names)}] needs a rank")
            keyword = self._keyword(section, int(rank), words)
            for word in keyword.words:
                if keywords.setdefault(word, keyword) is not keyword:
                    raise ScriptError(f"{word!r} is a keyword twice")
        if len(self._of("memory")) != 1:
            raise ScriptError("a script has one [memory]")
        (memory,) = self._of("memory")
        script = Script(
            pre=_substitutions(self._pre),
            post=_substitutions(_even(self._pairs("post"))),
            families=self._families,
            keywords=keywords,
            memory=self._keyword(memory, 0, memory.names),
            occasions={
                section.kind: self._occasion(section)
                for section in self._sections
                if section.kind not in {"pre", "post", "family", "key", "memory"}
            },
        )
        _check_whole(script)
        return script

    def _of(self, kind: str) -> list[_Section]:
        return [section for section in self._sections if section.kind == kind]

    def _pairs(self, kind: str) -> dict[tuple[str, ...], tuple[str, ...]]:
        pairs = (line.partition("=") for section in self._of(kind) for _, line in section.lines)
        table = {tuple(before.split()): tuple(after.split()) for before, _, after in pairs}
        for before in table:
            if len(before) not in {1, 2}:
                raise ScriptError(f"{' '.join(before)!r}: one or two words are substituted")
        return table

    def _keyword(self, section: _Section, rank: int, words: list[str]) -> Keyword:
        for word in words:
            self._check_reachable(word, f"keyword {word!r}")
        rules: list[tuple[str, list[tuple[int, str]]]] = []
        for number, line in section.lines:
            if line.startswith("("):
                rules.append((line.strip("()"), []))
            elif rules:
                rules[-1][1].append((number, line))
            else:
                raise ScriptError(f"line {number}: a reassembly needs a decomposition before it")
        return Keyword(tuple(words), rank, tuple(self._rule(*rule) for rule in rules))

    def _check_reachable(self, word: str, where: str) -> None:
        if (word,) in self._pre:
            raise ScriptError(f"{where}: {word!r} is substituted before anything looks at it")

    def _rule(self, pattern: str, lines: list[tuple[int, str]]) -> Rule:
        stretches = self._pattern(pattern)
        if not lines:
            raise ScriptError(f"({pattern}) has no reassembly")
        words = [word for stretch in stretches for word in stretch.words]
        kept = sum(word.kept for word in words) + sum(bool(stretch.gap) for stretch in stretches)
        self._rules += 1
        return Rule(
            number=self._rules,
            pattern=stretches,
            reassemblies=tuple(_reassembly(*line, kept) for line in lines),
            needs=tuple(word.options for word in words if word.options),
        )

    def _occasion(self, section: _Section) -> Occasion:
        self._rules += 1
        lines = tuple(
            line for at in section.lines if isinstance(line := _reassembly(*at, kept=0), Say)
        )
        if not lines:
            raise ScriptError(f"[{section.kind}] has no lines")
        return Occasion(self._rules, lines)

    def _pattern(self, text: str) -> tuple[Stretch, ...]:
        stretches: list[Stretch] = []
        gap: int | None = None
        words: list[Word] = []
        for element in text.split():
            if element not in {"*", "+"}:
                words.append(self._word(element, text))
                continue
            if gap is not None and not words:
                raise ScriptError(f"({text}): two gaps side by side")
            if gap is not None or words:
                stretches.append(Stretch(gap, tuple(words)))
            gap, words = (1 if element == "+" else 0), []
        return (*stretches, Stretch(gap, tuple(words)))

    def _word(self, element: str, where: str) -> Word:
        if element == "_":
            return Word(None, kept=True)
        options: set[str] = set()
        for name in element.split("|"):
            if not name.startswith("@"):
                self._check_reachable(name, where)
                options.add(name)
            elif name[1:] in self._families:
                options |= self._families[name[1:]]
            else:
                raise ScriptError(f"({where}): no family {name}")
        return Word(frozenset(options), kept="|" in element or "@" in element)


def _substitutions(pairs: Mapping[tuple[str, ...], tuple[str, ...]]) -> Substitutions:
    return Substitutions(pairs, frozenset(before[0] for before in pairs))


def _even(pairs: dict[tuple[str, ...], tuple[str, ...]]) -> dict[tuple[str, ...], tuple[str, ...]]:
    for before, after in pairs.items():
        if len(before) != len(after):
            raise ScriptError(f"{' '.join(before)!r} must become as many words as it is")
    return pairs


def _reassembly(number: int, line: str, kept: int) -> Say | Link:
    if line.startswith("="):
        return Link(line[1:].strip())
    parts = re.split(r"\{(\d+)\}", line)
    slots = [int(slot) for slot in parts[1::2]]
    if not all(1 <= slot <= kept for slot in slots):
        raise ScriptError(f"line {number}: it says back more than the decomposition keeps")
    return Say(tuple(int(part) if n % 2 else part for n, part in enumerate(parts) if part))


def _check_whole(script: Script) -> None:
    missing = {*_FAMILIES} - script.families.keys() | {*_OCCASIONS} - script.occasions.keys()
    if missing:
        raise ScriptError(f"the script lacks {', '.join(sorted(missing))}")
    for keyword in script.keywords.values():
        for rule in keyword.rules:
            for reassembly in rule.reassemblies:
                if isinstance(reassembly, Link) and reassembly.word not in script.keywords:
                    raise ScriptError(f"={reassembly.word} leads nowhere")
