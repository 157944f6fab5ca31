"""The built-in upstream: ELIZA answers from her script, with no network and no key.

The algorithm is Joseph Weizenbaum's ("ELIZA", CACM 9(1), 1966), save that the keyword of highest
rank in the whole message answers, not the one in its first phrase that has any.
"""

from __future__ import annotations

import asyncio
import re
import zlib
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise

from server.tokens.encoding import encoding
from server.upstream.local.eliza.script import (
    Keyword,
    Link,
    Say,
    Script,
    Spans,
    Substitutions,
    decompose,
    doctor,
)
from server.upstream.port import Finish, Prompt
from storage.model import Content, PromptMessage, Role, text_of

#: A reply is a function of at most this many of the newest user messages …
REPLAYED = 50
#: … of this many characters of each, from its beginning …
HEARD = 2_000
#: … of which at most this many are said back.
REFLECTED = 300

#: Bounds on what a hostile message can cost: phrases, words in a phrase, keywords tried.
PHRASES = 60
LONGEST = 60
DEPTH = 12

#: With no delay between words, other work gets its chance after this many.
_BREATH = 16

_BREAKS = ".,!?;:\n…—–。，、！？；：؟،।"
_EMOJI = "\u200d\ufe0f\u2600-\u27bf\U0001f000-\U0001faff"
_SILENT = '"“”„«»()\\[\\]{}<>*_`~|\\\\/=#\x00-\x1f\x7f\u202a-\u202e\u2066-\u2069\ud800-\udfff'
_LETTERS = rf"[^\s{_BREAKS}{_EMOJI}{_SILENT}]+"
_TOKEN = re.compile(
    rf"(?P<word>{_LETTERS}(?:[.,:](?=\d){_LETTERS})*|[{_EMOJI}]+)|(?P<stop>[.!?\n…。！？؟।])"
    rf"|[{_BREAKS}]"
)
_APOSTROPHES = str.maketrans("’‘ʼ", "'''")


class Eliza:
    """An upstream that keeps nothing: each answer is made from its prompt alone."""

    name = "eliza"

    def __init__(self, *, delay: float = 0.0) -> None:
        """`delay` is in seconds a word."""
        self._delay = delay
        self._script = doctor()

    async def complete(self, prompt: Prompt) -> AsyncIterator[str | Finish]:
        """Yield the answer word by word. Any model is accepted; usage is left to be counted."""
        answer = reply(prompt.messages, prompt.seed, self._script)
        answer, finish = _cut(answer, prompt.stop, prompt.max_tokens)
        for number, piece in enumerate(re.findall(r"\S+\s*", answer)):
            if self._delay > 0:
                await asyncio.sleep(self._delay)
            elif number % _BREATH == 0:
                await asyncio.sleep(0)
            yield piece
        yield finish

    async def close(self) -> None:
        """Close nothing, since nothing was opened."""


def reply(messages: Sequence[PromptMessage], seed: int | None, script: Script | None = None) -> str:
    """Answer the last of the user's messages.

    A pure function of the user's newest messages and the seed, so that no state is kept between
    calls: the messages are replayed, and reassemblies are used in turn. A seed chooses where each
    rule begins its round; without one, each begins with its first reassembly.
    """
    script = script or doctor()
    said = [message.content for message in messages if message.role is Role.USER]
    # Dropped by halves, so that rounds and memory go on undisturbed for many messages in a row.
    half = REPLAYED // 2
    dropped = max(0, -(-(len(said) - REPLAYED) // half) * half)
    talk = _Talk(script, dropped, seed)
    lines = [talk.hear(content) for content in said[dropped:]] or [talk.open()]
    return lines[-1].spoken(script)


@dataclass(frozen=True, slots=True)
class _Phrase:
    """Words between two breaks: in lower case to be matched, and as they were written."""

    keys: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()

    def part(self, start: int, end: int) -> _Phrase:
        return _Phrase(self.keys[start:end], self.shown[start:end])


@dataclass(frozen=True, slots=True)
class _Line:
    """An answer that has been chosen but not yet put together."""

    parts: tuple[str | int, ...]
    phrase: _Phrase = _Phrase()
    spans: Spans = ()

    def spoken(self, script: Script) -> str:
        """Put the answer together, with the user's words turned round."""
        words = _mirrored(self.phrase, script)
        share = REFLECTED // max(1, sum(isinstance(part, int) for part in self.parts))
        text = "".join(
            part if isinstance(part, str) else _shortened(words, self.spans[part - 1], share)
            for part in self.parts
        )
        return text[:1].upper() + text[1:]


class _Talk:
    """A conversation replayed: how often each rule was used, and what is remembered."""

    def __init__(self, script: Script, dropped: int, seed: int | None) -> None:
        self._script = script
        self._dropped = dropped
        self._seed = seed
        self._used: Counter[int] = Counter()
        self._memory: deque[_Line] = deque()

    def open(self) -> _Line:
        """Speak first."""
        return self._occasion("opening")

    def hear(self, content: Content) -> _Line:
        """Choose the answer to the next message, and remember what is worth it."""
        text = text_of(content).lstrip()[:HEARD]
        if not any(character.isalnum() for character in text):
            return self._occasion("wordless" if text or _is_text(content) else "picture")
        phrases = list(islice(_phrases(text, self._script), PHRASES))
        line = self._by_keyword(phrases) or self._without_keyword(text)
        self._remember(phrases)
        return line

    def _by_keyword(self, phrases: Sequence[_Phrase]) -> _Line | None:
        stack: dict[tuple[str, int], tuple[Keyword, _Phrase]] = {}
        for at, phrase in enumerate(phrases):
            for word in phrase.keys:
                if keyword := self._script.keywords.get(word):
                    stack.setdefault((keyword.words[0], at), (keyword, phrase))
        ranked = sorted(stack.values(), key=lambda found: -found[0].rank)
        lines = (self._follow(keyword, phrase) for keyword, phrase in ranked[:DEPTH])
        return next((line for line in lines if line), None)

    def _follow(self, keyword: Keyword, phrase: _Phrase, *seen: Keyword) -> _Line | None:
        """Use the first decomposition that fits; links lead on, but never round in a circle."""
        vocabulary = frozenset(phrase.keys)
        for rule in () if keyword in seen else keyword.rules:
            fits = rule.may_fit(vocabulary)
            spans = decompose(rule.pattern, phrase.keys) if fits else None
            if spans is None:
                continue
            match rule.reassemblies[self._turn(rule.number) % len(rule.reassemblies)]:
                case Say(parts):
                    return _Line(parts, phrase, spans)
                case Link(word):
                    return self._follow(self._script.keywords[word], phrase, keyword, *seen)
        return None

    def _without_keyword(self, text: str) -> _Line:
        letters = [character for character in text if character.isalpha()]
        if letters and not any(letter.isascii() for letter in letters):
            return self._occasion("foreign")
        return self._memory.popleft() if self._memory else self._occasion("fallback")

    def _remember(self, phrases: Sequence[_Phrase]) -> None:
        memory = self._script.memory
        for phrase in phrases:
            if any(word in phrase.keys for word in memory.words):
                line = self._follow(memory, phrase)
                if line:
                    self._memory.append(line)
                    return

    def _occasion(self, name: str) -> _Line:
        occasion = self._script.occasions[name]
        return _Line(occasion.lines[self._turn(occasion.number) % len(occasion.lines)].parts)

    def _turn(self, rule: int) -> int:
        """Say how often a rule was used, counted from where the seed lets it begin."""
        begun = 0 if self._seed is None else zlib.crc32(f"{self._seed}:{rule}".encode())
        self._used[rule] += 1
        return begun + self._dropped + self._used[rule] - 1


def _is_text(content: Content) -> bool:
    return isinstance(content, str) or all(part.get("type") == "text" for part in content)


def _phrases(text: str, script: Script) -> Iterator[_Phrase]:
    """Take a message apart at its breaks, and where a joiner begins a new thought."""
    if text.isupper():
        text = text.lower()
    plain = script.families["plain"]
    words: list[str] = []
    head = True
    for token in _TOKEN.finditer(text.translate(_APOSTROPHES)):
        word = token.group().strip("'-") if token.lastgroup == "word" else ""
        if word:
            words.append(word.lower() if head and word.lower() in plain else word)
            head = False
            continue
        yield from _thoughts(words, script)
        words, head = [], token.lastgroup == "stop"
    yield from _thoughts(words, script)


def _thoughts(words: Sequence[str], script: Script) -> Iterator[_Phrase]:
    if not words:
        return
    written = _Phrase(tuple(map(str.lower, words)), tuple(words))
    phrase = _substituted(written, script.pre)
    joiners, subjects = script.families["joiner"], script.families["subject"]
    start = 0
    for at, (key, following) in enumerate(pairwise(phrase.keys)):
        joined = at > start and key in joiners and following in subjects
        if joined or at - start >= LONGEST:
            yield _without_lead(phrase.part(start, at), script)
            start = at + joined
    yield _without_lead(phrase.part(start, len(phrase.keys)), script)


def _without_lead(phrase: _Phrase, script: Script) -> _Phrase:
    start = 0
    while start < len(phrase.keys) - 1 and phrase.keys[start] in script.families["lead"]:
        start += 1
    return phrase.part(start, len(phrase.keys))


def _substituted(phrase: _Phrase, table: Substitutions) -> _Phrase:
    if table.heads.isdisjoint(phrase.keys):
        return phrase
    keys: list[str] = []
    shown: list[str] = []
    at = 0
    while at < len(phrase.keys):
        pair, single = phrase.keys[at : at + 2], phrase.keys[at : at + 1]
        before = pair if pair in table.pairs else single
        after = table.pairs.get(before)
        keys += before if after is None else after
        shown += phrase.shown[at : at + 1] if after is None else after
        at += len(before)
    return _Phrase(tuple(keys), tuple(shown))


def _mirrored(phrase: _Phrase, script: Script) -> list[str]:
    """Turn a phrase's words round, one for one: "I" is "you", and "you" is "me", or "I"."""
    words = list(_substituted(phrase, script.post).shown)
    for at, key in enumerate(phrase.keys[:-1]):
        acts = at == 0 or phrase.keys[at - 1] in script.families["cue"]
        if key == "you" and words[at] == "me" and acts:
            words[at] = "I"
    return words


def _shortened(words: Sequence[str], span: tuple[int, int], most: int) -> str:
    text = " ".join(words[slice(*span)])
    if len(text) <= most:
        return text
    whole = text[:most].rpartition(" ")[0]
    return (whole or text[: most - 1]) + "…"


def _cut(answer: str, stop: Sequence[str], max_tokens: int | None) -> tuple[str, Finish]:
    """Cut an answer before the first stop sequence, then at so many tokens of o200k_base."""
    ends = [at for sequence in stop if sequence and (at := answer.find(sequence)) >= 0]
    answer = answer[: min(ends, default=len(answer))]
    # A token is a byte at least, so most answers need no counting.
    if max_tokens is None or len(answer.encode()) <= max_tokens:
        return answer, Finish("stop")
    o200k = encoding("o200k_base")
    tokens = o200k.encode(answer)
    if len(tokens) <= max_tokens:
        return answer, Finish("stop")
    # Half a character at the end decodes to something else than what was said: leave it out.
    kept = o200k.decode(tokens[: max(0, max_tokens)])
    while not answer.startswith(kept):
        kept = kept[:-1]
    return kept, Finish("length")
