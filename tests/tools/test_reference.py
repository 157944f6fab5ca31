"""The reference pages say what the tables in the code say."""

from __future__ import annotations

import pytest

from server.core.errors import Code
from tests.support.live import ROOT
from tools import reference


@pytest.mark.parametrize("page", sorted(reference.pages()))
def test_page_is_fresh(page: str) -> None:
    written = (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert written == reference.pages()[page], "run: python -m tools.reference docs"


def test_every_code_is_explained() -> None:
    assert set(reference.WHEN) == set(Code)
