"""Tests of the encodings: their shipped files, their tokens, and that no network is needed."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.tokens import encoding as module
from server.tokens.encoding import (
    ENCODINGS,
    LONGEST_PIECE,
    EncodingFileError,
    UnknownEncodingError,
    UnknownTokenError,
    build,
    encoding,
)

SHIPPED = Path(module.__file__).parent / "encodings"
ROOT = Path(module.__file__).parents[2]

#: As published with tiktoken: name of the URL's SHA-1, SHA-256 of the content.
PUBLISHED = {
    "r50k_base": (
        "0ea1e91bbb3a60f729a8dc8f777fd2fc07cd8df4",
        "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930",
    ),
    "p50k_base": (
        "ec7223a39ce59f226a68acc30dc1af2788490e15",
        "94b5ca7dff4d00767bc256fdd1b27e5b17361d7b8a5f968547f9f23eb70d2069",
    ),
    "cl100k_base": (
        "9b5ad71b2ce5302211f9c61530b329a4922fc6a4",
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    ),
    "o200k_base": (
        "fb374d419588a4632f3f557e76b4b70aebbca790",
        "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    ),
}

SAMPLE = "def f(x):\n        return x ** 2  # <|endoftext|> Größe 😀"

# fmt: off
R50K_SAMPLE = [
    4299, 277, 7, 87, 2599, 198, 220, 220, 220, 220, 220, 220, 220, 1441, 2124, 12429, 362, 220,
    1303, 1279, 91, 437, 1659, 5239, 91, 29, 1902, 9101, 39683, 68, 30325, 222,
]
P50K_SAMPLE = [
    4299, 277, 7, 87, 2599, 198, 50262, 1441, 2124, 12429, 362, 220, 1303, 1279, 91, 437, 1659,
    5239, 91, 29, 1902, 9101, 39683, 68, 30325, 222,
]
CL100K_SAMPLE = [
    755, 282, 2120, 997, 286, 471, 865, 3146, 220, 17, 220, 674, 83739, 8862, 728, 428, 91, 29,
    2895, 80040, 91416,
]
O200K_SAMPLE = [
    1314, 285, 4061, 1883, 309, 622, 1215, 6240, 220, 17, 220, 1069, 464, 91, 419, 1440, 919, 91,
    29, 74095, 88038,
]
# fmt: on

#: The tokens of SAMPLE, found with an independent implementation (js-tiktoken 1.0.21).
KNOWN = {
    "gpt2": R50K_SAMPLE,
    "r50k_base": R50K_SAMPLE,
    "p50k_base": P50K_SAMPLE,
    "p50k_edit": P50K_SAMPLE,
    "cl100k_base": CL100K_SAMPLE,
    "o200k_base": O200K_SAMPLE,
    "o200k_harmony": O200K_SAMPLE,
}

OFFLINE = """
import socket, sys

class Forbidden:
    def __init__(self, *arguments, **options):
        raise AssertionError("a socket was opened")

socket.socket = socket.create_connection = socket.getaddrinfo = Forbidden
from server.tokens.encoding import ENCODINGS, encoding
for name in ENCODINGS:
    print(name, *encoding(name).encode("hello world"))
"""


def offline(**environment: str) -> list[str]:
    """Encode with every encoding in a fresh interpreter that cannot open a socket."""
    finished = subprocess.run(
        [sys.executable, "-c", OFFLINE],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.splitlines()


HELLO_WORLD = [
    "gpt2 31373 995",
    "r50k_base 31373 995",
    "p50k_base 31373 995",
    "p50k_edit 31373 995",
    "cl100k_base 15339 1917",
    "o200k_base 24912 2375",
    "o200k_harmony 24912 2375",
]


@pytest.mark.parametrize(("name", "sha256"), PUBLISHED.values(), ids=PUBLISHED)
def test_shipped_file_is_the_published_one(name: str, sha256: str) -> None:
    assert hashlib.sha256((SHIPPED / name).read_bytes()).hexdigest() == sha256


def test_nothing_else_is_shipped_and_the_notice_names_every_file() -> None:
    names = {name for name, _ in PUBLISHED.values()}
    assert {path.name for path in SHIPPED.iterdir()} == {*names, "NOTICE"}
    notice = (SHIPPED / "NOTICE").read_text(encoding="utf-8")
    for name, sha256 in PUBLISHED.values():
        assert name in notice
        assert sha256 in notice


def test_every_encoding_works_without_network_and_with_an_unwritable_cache(tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    assert offline(TIKTOKEN_CACHE_DIR=str(in_the_way / "cache")) == HELLO_WORLD


def test_a_cache_of_the_users_is_neither_read_nor_changed(tmp_path: Path) -> None:
    for name, _ in PUBLISHED.values():
        (tmp_path / name).write_text("garbage")
    caches = {"TIKTOKEN_CACHE_DIR": str(tmp_path), "DATA_GYM_CACHE_DIR": str(tmp_path)}
    assert offline(**caches) == HELLO_WORLD
    assert {path.name for path in tmp_path.iterdir()} == {name for name, _ in PUBLISHED.values()}
    assert all(path.read_text() == "garbage" for path in tmp_path.iterdir())


def test_a_damaged_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    name, _ = PUBLISHED["r50k_base"]
    damaged = (SHIPPED / name).read_bytes()[:-1]
    (tmp_path / name).write_bytes(damaged)
    for affected in ("r50k_base", "gpt2"):
        with pytest.raises(EncodingFileError, match=f"{name} is damaged"):
            build(affected, tmp_path)
    assert (tmp_path / name).read_bytes() == damaged


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EncodingFileError, match="cannot read the rank file"):
        build("o200k_harmony", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UnknownEncodingError, match="'klingon'; known: gpt2, r50k_base"):
        encoding("klingon")


def test_an_encoding_is_built_once_for_all_threads() -> None:
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(encoding, ["cl100k_base"] * 8))
    assert {id(each) for each in found} == {id(encoding("cl100k_base"))}


@pytest.mark.parametrize("name", ENCODINGS)
def test_known_tokens(name: str) -> None:
    assert encoding(name).name == name
    assert encoding(name).encode(SAMPLE) == KNOWN[name]
    assert encoding(name).count(SAMPLE) == len(KNOWN[name])
    assert encoding(name).decode(KNOWN[name]) == SAMPLE


@pytest.mark.parametrize(
    ("name", "token", "text"),
    [
        ("gpt2", 50256, "<|endoftext|>"),
        ("p50k_edit", 50281, "<|fim_prefix|>"),
        ("cl100k_base", 100276, "<|endofprompt|>"),
        ("o200k_base", 200018, "<|endofprompt|>"),
        ("o200k_harmony", 200006, "<|start|>"),
        ("o200k_harmony", 201087, "<|reserved_201087|>"),
    ],
)
def test_special_tokens_decode_but_their_look_alikes_are_text(
    name: str, token: int, text: str
) -> None:
    assert encoding(name).decode([token]) == text
    assert token not in encoding(name).encode(text)
    assert encoding(name).decode(encoding(name).encode(text)) == text


@settings(deadline=None)
@given(text=st.text(), name=st.sampled_from(ENCODINGS))
def test_text_survives_the_round_trip(text: str, name: str) -> None:
    tokens = encoding(name).encode(text)
    assert encoding(name).decode(tokens) == text
    assert encoding(name).count(text) == len(tokens)


@settings(deadline=None)
@given(text=st.text())
def test_gpt2_has_the_tokens_of_r50k(text: str) -> None:
    assert encoding("gpt2").encode(text) == encoding("r50k_base").encode(text)


@settings(deadline=None, max_examples=50)
@given(words=st.lists(st.text(min_size=1).filter(lambda word: not word[-1].isspace())))
def test_a_space_after_a_word_begins_new_tokens_in_every_encoding(words: list[str]) -> None:
    for name in ENCODINGS:
        apart = [token for word in words for token in encoding(name).encode(" " + word)]
        assert encoding(name).encode("".join(" " + word for word in words)) == apart


@pytest.mark.parametrize("name", ENCODINGS)
def test_long_text_is_cut_where_its_tokens_do_not_change(name: str) -> None:
    sentence = " incomprehensibilities are counted,   1234567 times"
    times = 3 * LONGEST_PIECE // len(sentence)
    assert encoding(name).encode(sentence * times) == encoding(name).encode(sentence) * times


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.parametrize("unit", [" ", "a"])
def test_a_million_of_one_character_is_no_trouble(name: str, unit: str) -> None:
    text = unit * 1_000_000
    assert encoding(name).decode(encoding(name).encode(text)) == text


@pytest.mark.parametrize("name", ENCODINGS)
def test_a_lone_surrogate_becomes_the_replacement_character(name: str) -> None:
    assert encoding(name).encode("a\ud83db") == encoding(name).encode("a\ufffdb")
    assert encoding(name).count("\udc00") == encoding(name).count("\ufffd")


@pytest.mark.parametrize("token", [10**6, 199_998, -1, 2**70])
def test_an_unknown_token_is_refused(token: int) -> None:
    with pytest.raises(UnknownTokenError, match="no such token in o200k_base"):
        encoding("o200k_base").decode([24912, token])
