"""Somebody with a key of ours who wants the upstream's: guesses it, and looks how he is answered.

    python -m tests.torture.oracle                  20,000 requests, some minutes
    python -m tests.torture.oracle --requests 300   as tests/torture/test_oracle.py does it
    python -m tests.torture.oracle --seed 7         the guesses of an earlier run

The upstream repeats what it is asked, as many do ("The model `X` does not exist"). Two answers to
two guesses may differ by the guess and by nothing else: each is compared with that to a word that
is no guess. A difference tells a letter, which is added to what is known, until the key is read.
Ends with 1 where an answer told anything.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import string
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2

from tests.support.live import Process
from tests.support.upstream_script import Exchange, complain, fail
from tests.support.upstream_server import ScriptedUpstream

KEY = "sk-proj-Zq7Xw2Vb9Nm4Kp8Lr3Td"
#: so much of a key of this kind everybody knows
KNOWN = "sk-proj-"
#: of a guess that is none
PLAIN = "gpt-nowhere"
LETTERS = string.ascii_letters + string.digits + "-_"
#: letters that a guess takes along of what is known
_WINDOW = 8
Ask = Callable[[str], Awaitable[str]]


async def repeats(exchange: Exchange) -> None:
    """Refuse a model by its name, in every field of the error, with our own key masked beside."""
    body = exchange.request.body or {}
    name = body.get("model", exchange.request.path.rpartition("/")[2])
    error = told(name)
    if name.startswith("late-"):
        await complain("Hel", error=error)(exchange)
    elif body.get("stream") and name.startswith("in-"):
        await complain(error=error)(exchange)
    else:
        await fail(404, body={"error": error, "request": {"model": name}})(exchange)


def told(name: str) -> dict[str, Any]:
    """Return what the upstream says of a model."""
    masked = f"{KEY[:7]}***{KEY[-4:]}"
    return {
        "message": f"The model `{name}` does not exist for {KEY}, which is {masked} at 127.0.0.1",
        "type": "invalid_request_error",
        "param": name,
        "code": f"no:{name}",
        "metadata": {"raw": [name], name: 1},
    }


def guesses(known: str, rng: random.Random) -> Iterator[str]:
    """Yield what may come next: each letter behind what is known, then pieces of any length."""
    for letter in LETTERS:
        yield (known + letter)[-_WINDOW:]
    while True:  # who guesses all of it at once needs no oracle
        length = rng.randint(1, len(KEY) - 1)
        start = rng.randrange(len(KEY) - length + 1)
        yield KEY[start : start + length]
        yield "".join(rng.choices(LETTERS, k=length))


async def read_key(ask: Ask, requests: int, seed: int) -> str:
    """Return what of the key could be read in so many requests beyond what everybody knows."""
    known, rng = KNOWN, random.Random(seed)
    plain = await ask(PLAIN)
    left = requests - 1
    while left > 0 and len(known) < len(KEY):
        for guess in itertools.islice(guesses(known, rng), left):
            left -= 1
            if await ask(guess) != plain.replace(PLAIN, guess):
                known += guess[-1]
                break
    return known[len(KNOWN) :]


async def attacked(requests: int, seed: int, kind: type[Process] = Process) -> str:
    """Return what was read of the key of a server's upstream; the server is started as `kind`."""
    async with ScriptedUpstream() as upstream:
        upstream.otherwise = repeats
        env = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": upstream.base_url}
        with tempfile.TemporaryDirectory() as folder:
            async with (
                kind(Path(folder), env=env) as server,
                httpx2.AsyncClient(base_url=server.http, timeout=60, verify=False) as client,
            ):

                async def ask(model: str) -> str:
                    said = [{"role": "user", "content": "Hello"}]
                    body = {"model": model, "messages": said}
                    response = await client.post("/v1/chat/completions", json=body)
                    return json.dumps(response.json(), ensure_ascii=False)

                return await read_key(ask, requests, seed)


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--requests", type=int, default=20_000)
    arguments.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    chosen = arguments.parse_args()
    requests: int = chosen.requests
    print(f"seed {chosen.seed}", flush=True)
    found = asyncio.run(attacked(requests, chosen.seed))
    print(f"{requests} requests read {len(found)} letters of the key {found!r}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
