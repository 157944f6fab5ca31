"""Who greps for the field's own word finds the file that does it: by that file's first sentence."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.support.live import ROOT

FILES = {
    "authentication": "server/core/access/auth.py",
    "rate limit": "server/core/access/rate.py",
    "concurrency": "server/core/access/concurrency.py",
    "queue": "server/live/turn_queue.py",
    "notify": "server/live/notify.py",
    "middleware": "server/transports/http/middleware.py",
    "write timeout": "server/transports/write_timeout.py",
    "read timeout": "server/upstream/remote/read_timeout.py",
    "redact": "server/upstream/remote/redaction.py",
    "circuit breaker": "server/upstream/health.py",
    "failover": "server/upstream/pool.py",
    "proxy": "server/upstream/remote/client.py",
    "tokenizer": "server/tokens/encoding.py",
    "normalize": "server/openai_protocol/normalize.py",
    "validate": "server/core/validation.py",
    "session": "server/transports/websocket/session.py",
    "back-pressure": "server/transports/write_timeout.py",
}

#: a file or a name that one is told to see, and a constant of a module's
REFERENCE = re.compile(
    r"see `?(?:\w+/)*(?P<module>\w+)\.py|see `(?P<name>\w+)`|`(?P<of>\w+)\.[A-Z_]+`"
)


@cache
def first_sentence(path: str) -> str:
    docstring = ast.get_docstring(ast.parse((ROOT / path).read_text())) or ""
    return docstring.partition("\n\n")[0].lower()


@pytest.mark.parametrize("word", FILES)
def test_a_word_of_the_field_leads_to_the_file_that_does_it(word: str) -> None:
    assert word in first_sentence(FILES[word])


@pytest.mark.parametrize("word", FILES)
def test_and_to_few_others(word: str) -> None:
    """A word that stood in every file would lead nowhere."""
    sources = [str(path.relative_to(ROOT)) for path in (ROOT / "server").rglob("*.py")]
    assert len([path for path in sources if word in first_sentence(path)]) <= 4


def modules() -> list[Path]:
    folders = ("server", "storage", "clients", "tools", "bench", "tests")
    found = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    return [path for path in found if "node_modules" not in path.parts]


def test_what_a_text_refers_to_is_there() -> None:
    """Who renames a module, or what a text tells to see in its own, renames it there too."""
    texts = {path: path.read_text() for path in modules()}
    names = {path.stem for path in texts}
    lost = [
        f"{path.relative_to(ROOT)}: {found[0]}"
        for path, text in texts.items()
        for found in REFERENCE.finditer(text)
        if not {found["module"], found["of"]} & names
        and (found["name"] is None or len(re.findall(rf"\b{found['name']}\b", text)) == 1)
    ]
    assert lost == []


def test_every_module_says_in_one_sentence_what_it_is() -> None:
    speechless = [
        str(path.relative_to(ROOT))
        for path in modules()
        if path.name != "__init__.py"
        and not path.is_relative_to(ROOT / "tests" / "examples" / "clients")
        and not first_sentence(str(path.relative_to(ROOT))).rstrip().endswith((".", "!", ":"))
    ]
    assert speechless == []
