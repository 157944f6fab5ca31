"""Run a client's features one by one and print a line for each: name, ok or failed, what was seen.

The programs beside this file run in the environments that `bin/try-clients` makes for them, where
nothing of this repository is installed: only the standard library is imported here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

BASE_URL = os.environ["OPENAI_BASE_URL"]
API_KEY = os.environ["OPENAI_API_KEY"]
MODEL = os.environ.get("OPENAI_MODEL", "gpt-4o-mini")
EMBEDDING_MODEL = "text-embedding-3-small"

QUESTION = "Hello, I am sad."
HISTORY = (
    ("system", "You are kind."),
    ("user", "My name is Ada."),
    ("assistant", "It is good to meet you, Ada."),
    ("user", "Do you remember my name?"),
)


class FeatureError(Exception):
    """A client got something else than it should."""


def expect(holds: object, seen: object) -> None:
    """Raise FeatureError, with what was seen, where something does not hold."""
    if not holds:
        raise FeatureError(f"unexpected: {seen!r}")


def report(*features: Callable[[], object]) -> None:
    """Try each feature and end the process, with 1 if any failed.

    A feature is a function named for it that returns what is worth showing.
    """
    failed = False
    for feature in features:
        try:
            verdict, seen = "ok", feature()
        except Exception as error:  # noqa: BLE001 - whatever a client raises is its verdict
            verdict, seen = "failed", f"{type(error).__module__}.{type(error).__name__}: {error}"
            failed = True
        line = " ".join(str(seen).split())
        print(feature.__name__, verdict, line[:300], sep="\t", flush=True)
    sys.exit(failed)


def refused(call: Callable[[], object], kind: str) -> str:
    """Return the message of the error that a call ends with; its class must have this name."""
    try:
        answer = call()
    except Exception as error:
        if kind not in {one.__name__ for one in type(error).__mro__}:
            raise
        expect("temperature" in str(error), error)
        return f"{type(error).__name__}: {error}"
    raise FeatureError(f"no error, but {answer!r}")


def run(*words: str, stdin: str = "", fails: bool = False) -> str:
    """Run a command of this environment; return what it printed, its complaints where it fails."""
    command = os.path.join(os.path.dirname(sys.executable), words[0])  # noqa: PTH118, PTH120
    done = subprocess.run(
        (command, *words[1:]), input=stdin, capture_output=True, text=True, timeout=60, check=False
    )
    said = done.stdout + (done.stderr if fails or done.returncode else "")
    expect((done.returncode != 0) == fails, (done.returncode, said[-300:]))
    return said.strip()
