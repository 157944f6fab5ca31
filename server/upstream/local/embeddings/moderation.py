"""What texts are about that people may want to keep out: judged by likeness to known sentences.

A text is flagged where one of its sentences is like a sentence of a category, and more like it
than any plain one. This is a coarse judge: it knows English, and what its examples know. Its
limits were set with some hundred sentences that are not among the examples.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING

from server.upstream.local.embeddings.embedder import Embedder

if TYPE_CHECKING:
    from server.upstream.local.embeddings.minilm import Floats

MODEL = "trialogue-minilm-moderation"
CATEGORIES = (
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
)

#: What belongs to the first belongs to the second as well.
_WITHIN = {
    "harassment/threatening": "harassment",
    "hate/threatening": "hate",
    "illicit/violent": "illicit",
    "self-harm/instructions": "self-harm",
    "self-harm/intent": "self-harm",
    "sexual/minors": "sexual",
    "violence/graphic": "violence",
}
_PLAIN = "plain"
#: The likeness from which on a text is flagged, how much less than the likest category's it may
#: be, and how fast scores rise there.
_LIKE = 0.55
_NEAR = 0.12
_STEEP = 25.0
#: Sentences of one text that are looked at each by itself.
_MOST_SENTENCES = 100
_SENTENCE = re.compile(r"[^.!?\n]+[.!?\n]*")
_SHORTEST_SENTENCE = 12


@dataclass(frozen=True, slots=True)
class Judgement:
    """How much a text belongs to each category, from 0 to 1; 0.5 and more is flagged."""

    scores: Mapping[str, float]

    @property
    def flagged(self) -> bool:
        return any(map(self.belongs, self.scores))

    def belongs(self, category: str) -> bool:
        return self.scores[category] >= 0.5


class Moderator:
    """Judges texts; its examples are embedded at the first."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._examples: dict[str, Floats] | None = None

    async def judge(self, texts: Sequence[str]) -> list[Judgement]:
        """Judge each text. Raises what Embedder.embed raises."""
        examples = await self._known()
        parts = [_parts(text) for text in texts]
        rows = await self._embedder.embed([part for own in parts for part in own])
        judgements = []
        for own in parts:
            judgements.append(_judgement(rows[: len(own)], examples))
            rows = rows[len(own) :]
        return judgements

    async def _known(self) -> dict[str, Floats]:
        if self._examples is None:
            sentences = read_examples()
            self._examples = {
                category: await self._embedder.embed(own) for category, own in sentences.items()
            }
        return self._examples


def read_examples() -> dict[str, list[str]]:
    """Return the sentences of each category, and the plain ones."""
    folder = files("server.upstream.local.embeddings")
    text = (folder / "moderation_examples.txt").read_text("utf-8")
    found: dict[str, list[str]] = {}
    own: list[str] = []
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            own = found.setdefault(line.strip("[]"), [])
        elif line and not line.startswith("#"):
            own.append(line)
    return found


def _parts(text: str) -> list[str]:
    """Return a text as a whole, and its sentences where there are several."""
    sentences = [found.group().strip() for found in _SENTENCE.finditer(text)]
    long = [sentence for sentence in sentences if len(sentence) >= _SHORTEST_SENTENCE]
    return [text, *(long[:_MOST_SENTENCES] if len(sentences) > 1 else ())]


def _judgement(rows: Floats, examples: Mapping[str, Floats]) -> Judgement:
    """Judge a text by the rows of its parts."""
    margins = dict.fromkeys(CATEGORIES, -1.0)
    for row in rows:
        plain = float((examples[_PLAIN] @ row).max())
        like = {category: float((examples[category] @ row).max()) for category in CATEGORIES}
        least = max(_LIKE, plain, max(like.values()) - _NEAR)
        for category in CATEGORIES:
            margins[category] = max(margins[category], like[category] - least)
    for category, wider in _WITHIN.items():
        margins[wider] = max(margins[wider], margins[category])
    return Judgement({name: 1 / (1 + math.exp(-_STEEP * one)) for name, one in margins.items()})
