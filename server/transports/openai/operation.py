"""An operation of `/v1` as /openapi.json describes it, and how it may be refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

TAG: Final = "OpenAI"
#: Of every route: `Host` and `Origin`, key, rate, storage or the end of the server.
KEPT: Final = (400, 401, 403, 429, 500, 503)
ONE: Final = (*KEPT, 404)
#: "4XX" is an upstream's own refusal, whose status is passed on.
PASSED: Final = (*ONE, 413, 502, 504, "4XX")


@dataclass(frozen=True, slots=True)
class Operation:
    """`answers` is the `object` of an answer; `asks` a body, as an example, which needs `needs`."""

    id: str
    summary: str
    answers: str | None
    asks: Mapping[str, Any] | None = None
    needs: tuple[str, ...] = ()
    refusals: tuple[int | str, ...] = PASSED
    tag: str = TAG
    streams: bool = False
    headers: tuple[str, ...] = ()
