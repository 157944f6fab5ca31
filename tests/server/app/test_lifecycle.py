"""The composition root; that it drains and closes is shown on a whole server, in test_process."""

from __future__ import annotations

import pytest

from server.app.lifecycle import writing_time


@pytest.mark.parametrize(("grace", "seconds"), [(0, 0), (10, 8), (15, 12), (25, 22), (600, 597)])
def test_the_end_of_a_grace_is_for_last_words(grace: float, seconds: float) -> None:
    assert writing_time(grace) == pytest.approx(seconds)
