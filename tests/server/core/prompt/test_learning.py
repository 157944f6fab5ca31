"""A ratio and a window, learnt from what upstreams tell."""

from __future__ import annotations

import pytest

from server.core.prompt.learning import HOLDS_A_WHILE, HOLDS_LONG, MOST, Learning
from server.upstream.model_info import ModelInfo, Named
from storage.model import Lesson

TINY = Named("llama", "tiny")


class Clock:
    now = 1_000_000

    def __call__(self) -> int:
        return self.now


def test_a_ratio_rises_at_once_and_falls_slowly() -> None:
    learning = Learning(Clock())
    assert learning.ratio(TINY) is None
    assert learning.heard(TINY, 100, 200) == Lesson("llama", "tiny", 2.0)
    learning.heard(TINY, 100, 320)
    assert learning.ratio(TINY) == 3.2
    learning.heard(TINY, 100, 100)
    assert learning.ratio(TINY) == pytest.approx(3.2 * 0.98)
    assert learning.heard(TINY, 1000, 3130) is None, "not worth keeping"


def test_answers_that_differ_as_they_do_are_not_each_worth_a_write() -> None:
    learning = Learning(Clock(), [Lesson("llama", "tiny", 2.0)])
    heard = [learning.heard(TINY, 100, (200, 170, 185)[number % 3]) for number in range(300)]
    assert heard == [None] * 300
    assert learning.heard(TINY, 100, 203) is not None
    fallen = [learning.heard(TINY, 100, 100) for _ in range(6)]
    assert [one is not None for one in fallen] == [False] * 5 + [True]


def test_a_lie_stays_within_reason() -> None:
    learning = Learning(Clock())
    learning.heard(TINY, 1, 10**9)
    assert learning.ratio(TINY) == 16
    for ours, theirs in ((0, 5), (5, 0), (-1, -1)):
        assert learning.heard(TINY, ours, theirs) is None


@pytest.mark.parametrize(("told", "holds"), [(None, HOLDS_LONG), (8192, HOLDS_A_WHILE)])
def test_a_window_that_was_learnt_holds_for_a_time(told: int | None, holds: int) -> None:
    clock = Clock()
    learning = Learning(clock)
    learning.refused(TINY, 100, 900, 512)
    info = ModelInfo(TINY, told_window=told)
    clock.now += holds - 1
    assert learning.window(info) == 512
    clock.now += 1
    assert learning.window(info) is None
    clock.now -= 2 * holds
    assert learning.window(info) is None, "the clock was put back since"


def test_a_prompt_that_was_cut_tells_the_window() -> None:
    learning = Learning(Clock())
    assert learning.was_cut(9000, 4096)
    assert not learning.was_cut(9000, 8000)
    assert not learning.was_cut(9000, 12), "that is what was not cached"
    learning.cut(TINY, 4096)
    assert learning.window(ModelInfo(TINY)) == 4096
    learning.heard(TINY, 5000, 6000)
    assert learning.window(ModelInfo(TINY)) is None, "it takes more than was thought"


def test_it_remembers_a_bounded_number() -> None:
    learning = Learning(Clock(), [Lesson("a", str(number), 1.0) for number in range(MOST)])
    learning.heard(TINY, 1, 2)
    assert learning.ratio(Named("a", "0")) is None
    assert learning.ratio(Named("a", "1")) == 1
