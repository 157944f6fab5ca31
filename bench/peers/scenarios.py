"""What is asked of a server, and what is read off: one function a scenario, rows of figures."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from bench.peers.load import Seen, load, request, response_id
from bench.peers.servers import Running
from bench.peers.upstream import PACE, TOKENS

#: turns until another conversation is begun
TURNS: Final = 10
#: what the first token of an answer has, and what its last
_FIRST: Final = b" word00"
_LAST: Final = b" word%02d" % (TOKENS - 1)
_QUESTION: Final = "Tell me something about apples."

Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Scenario:
    """So many callers, what they ask, and whether the upstream alone can be asked it."""

    name: str
    callers: int
    streamed: bool
    kept: bool = False
    model: str = "fast"

    async def run(self, server: Running, api: str | None, seconds: float) -> Figures:
        """Return the figures of a server; `api` says how it keeps a turn."""
        asks = self._asks(server.url, api)
        await load(server.url, self.callers, min(1.0, seconds / 3), asks, _FIRST, _LAST)
        before = server.cpu
        seen = await load(server.url, self.callers, seconds, asks, _FIRST, _LAST)
        return self._figures(seen, server.cpu - before)

    async def alone(self, url: str, seconds: float) -> Figures:
        """Return the figures of the upstream itself."""
        asks = self._asks(url, None)
        await load(url, self.callers, min(1.0, seconds / 3), asks, _FIRST, _LAST)
        return self._figures(await load(url, self.callers, seconds, asks, _FIRST, _LAST), None)

    def _figures(self, seen: Seen, cpu: float | None) -> Figures:
        found = {
            "each second": seen.exchanges / seen.seconds,
            "first p50 ms": seen.first_p50,
            "first p99 ms": seen.percentile(0.99, seen.firsts),
            "end p50 ms": seen.percentile(0.5, seen.ends),
        }
        if cpu is not None:
            found["CPU ms each"] = 1000 * cpu / seen.exchanges
        if self.streamed:
            found["tokens/s"] = TOKENS * seen.exchanges / seen.seconds
        if self.model == "paced":
            due = PACE * (TOKENS + 1)
            found["pace held"] = 1000 * due / seen.percentile(0.5, seen.ends)
        return found

    def _asks(self, url: str, api: str | None) -> Callable[[int, bytes | None], bytes]:
        if not self.kept:
            said = [{"role": "user", "content": _QUESTION}]
            body = _json({"model": self.model, "messages": said, "stream": self.streamed})
            one = request(url, "/v1/chat/completions", body)
            return lambda _, __: one
        return _Responses(url, self.model) if api == "responses" else _Asks(url, self.model)


class _Asks:
    """Turns by our own wire: ten to a conversation, streamed."""

    def __init__(self, url: str, model: str) -> None:
        self._url = url
        self._body = _json({"prompt": _QUESTION, "model": model, "stream": True})
        self._at: dict[int, tuple[int, int]] = {}

    def __call__(self, caller: int, answer: bytes | None) -> bytes:
        conversation, turns = self._at.get(caller, (0, TURNS))
        if turns == TURNS:
            conversation, turns = next(_NAMES), 0
        self._at[caller] = conversation, turns + 1
        return request(
            self._url, f"/ask/bench-{conversation}", self._body, "accept: text/event-stream"
        )


class _Responses:
    """Turns by OpenAI's stateful API: each upon the one before, ten to a chain, streamed."""

    def __init__(self, url: str, model: str) -> None:
        self._url = url
        self._model = model
        self._turns: dict[int, int] = {}

    def __call__(self, caller: int, answer: bytes | None) -> bytes:
        turns = self._turns.get(caller, 0)
        body: dict[str, object] = {"model": self._model, "input": _QUESTION}
        if answer is not None and turns % TURNS:
            body["previous_response_id"] = response_id(answer)
        self._turns[caller] = turns + 1
        return request(self._url, "/v1/responses", _json({**body, "stream": True, "store": True}))


_NAMES: Final = itertools.count()


def _json(said: Mapping[str, object]) -> bytes:
    return json.dumps(said, separators=(",", ":")).encode()


SCENARIOS: Final = (
    Scenario("kept turns, streamed, 32 callers", 32, streamed=True, kept=True),
    Scenario("kept turns, streamed, 1 caller", 1, streamed=True, kept=True),
    Scenario("passed through, whole, 32 callers", 32, streamed=False),
    Scenario("passed through, whole, 1 caller", 1, streamed=False),
    Scenario("passed through, streamed, 100 at once", 100, streamed=True),
    Scenario("passed through, paced, 100 at once", 100, streamed=True, model="paced"),
)
