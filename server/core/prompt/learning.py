"""What is learnt of models whose encoding is not ours to know: a ratio of tokens, and a window."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from server.upstream.model_info import ModelInfo, Named
from storage.model import Lesson

#: So much of a ratio is left after each answer that shows a lower one.
FADING = 0.98
#: Outside of these no tokenizer is.
LOWEST, HIGHEST = 0.25, 16.0
#: A ratio is kept anew above so much of the one that is kept, and below so much of it.
RISES, FALLS = 1.01, 0.9
#: Microseconds that a learnt window holds: where the upstream tells one, and where it tells none.
HOLDS_A_WHILE, HOLDS_LONG = 120 * 1_000_000, 24 * 3600 * 1_000_000
#: A prompt of which the upstream read less than this share, and so many tokens less, was cut.
CUT_SHARE, CUT_TOKENS = 0.6, 200
#: No window is so small; who reports less tells what it read anew, and left out what it had cached.
CUT_LEAST = 256
#: So many lessons are remembered, those of late: names of models are for callers to choose.
MOST = 1000


class Learning:
    """Knows the lessons of every upstream and model; `now` is in microseconds since 1970."""

    def __init__(self, now: Callable[[], int], lessons: Iterable[Lesson] = ()) -> None:
        self._now = now
        self._lessons: dict[tuple[str, str], Lesson] = {}
        #: the longest prompts that were read, in the model's tokens
        self._longest: dict[tuple[str, str], int] = {}
        #: the ratios that were worth keeping, as they were then
        self._kept: dict[tuple[str, str], float | None] = {}
        self.remember(lessons)

    def remember(self, lessons: Iterable[Lesson]) -> None:
        """Take in what was kept."""
        for one in lessons:
            self._lessons[one.upstream, one.model] = one
            self._kept[one.upstream, one.model] = one.ratio

    def ratio(self, named: Named) -> float | None:
        """Return how many of its tokens one of ours is; None where nothing was heard yet."""
        lesson = self._lessons.get((named.upstream, named.model))
        return lesson.ratio if lesson else None

    def window(self, info: ModelInfo) -> int | None:
        """Return the window that was learnt of late; what is told later counts more."""
        lesson = self._lessons.get((info.named.upstream, info.named.model))
        if lesson is None or lesson.window is None:
            return None
        holds = HOLDS_LONG if info.told_window is None else HOLDS_A_WHILE
        # One from the future was learnt before the clock was put right: when, nobody knows.
        return lesson.window if abs(self._now() - lesson.window_at) < holds else None

    def heard(self, named: Named, ours: int, theirs: int) -> Lesson | None:
        """Learn from a prompt that was counted by both; return the lesson where it is news."""
        if ours <= 0 or theirs <= 0:
            return None
        key, before = (named.upstream, named.model), self._lesson(named)
        self._longest[key] = max(theirs, self._longest.get(key, 0))
        found = min(max(theirs / ours, LOWEST), HIGHEST)
        ratio = found if before.ratio is None else max(found, FADING * before.ratio)
        after = replace(before, ratio=ratio)
        if before.window is not None and theirs > before.window:  # it takes more than was thought
            after = replace(after, window=None)
        return self._learnt(after, before)

    def refused(
        self, named: Named, ours: int, theirs: int | None, window: int | None
    ) -> Lesson | None:
        """Learn from a refusal for length, which tells the prompt's tokens or the window."""
        before = after = self._lesson(named)
        if window is not None:
            after = replace(after, window=window, window_at=self._now())
        if theirs and ours > 0:
            found = min(max(theirs / ours, LOWEST), HIGHEST)
            after = replace(after, ratio=max(found, FADING * (before.ratio or 0)))
        return self._learnt(after, before)

    def cut(self, named: Named, theirs: int) -> Lesson | None:
        """Learn the window of an upstream that read no more of a prompt than this, and before."""
        before = self._lesson(named)
        window = max(theirs, self._longest.get((named.upstream, named.model), 0))
        return self._learnt(replace(before, window=window, window_at=self._now()), before)

    def was_cut(self, expected: int, read: int) -> bool:
        """Say whether an upstream read so much less than was sent that it must have cut it."""
        return CUT_LEAST <= read < CUT_SHARE * expected and expected - read > CUT_TOKENS

    def _lesson(self, named: Named) -> Lesson:
        found = self._lessons.get((named.upstream, named.model))
        return found or Lesson(named.upstream, named.model)

    def _learnt(self, after: Lesson, before: Lesson) -> Lesson | None:
        """Take in a lesson; return it where it is worth keeping."""
        key = after.upstream, after.model
        self._lessons.pop(key, None)
        self._lessons[key] = after
        if len(self._lessons) > MOST:
            oldest = next(iter(self._lessons))
            del self._lessons[oldest]
            self._longest.pop(oldest, None)
            self._kept.pop(oldest, None)
        windows = after.window != before.window or after.window_at != before.window_at
        if not windows and not _is_news(after.ratio, self._kept.get(key)):
            return None
        self._kept[key] = after.ratio
        return after


def _is_news(ratio: float | None, kept: float | None) -> bool:
    """Say whether a ratio is worth a write: one that is kept too low has a prompt refused after a
    restart, and one too high does little harm.
    """
    if ratio is None or kept is None:
        return ratio != kept
    return not RISES * kept >= ratio >= FALLS * kept
