"""Tests of the key file: digests alone, for its owner's eyes, safe among processes."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from storage.keys import KeyFile
from storage.model import ApiKey
from storage.port import NotFoundError

SECRET = "tk_a-secret"


def key(id: str = "key_1", owner: str = "ada") -> ApiKey:  # noqa: A002
    return ApiKey(id, owner, hashlib.sha256(SECRET.encode()).digest(), 5)


@pytest.fixture
def file(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "trialogue.keys")


@pytest.fixture
def open_handed() -> Iterator[None]:
    """A umask that lets everybody read what is made."""
    before = os.umask(0)
    yield
    os.umask(before)


def test_no_file_is_no_keys_and_reading_makes_none(file: KeyFile) -> None:
    assert list(file.keys()) == []
    assert not file.path.exists()


def test_keys_come_back_as_they_were_added(file: KeyFile) -> None:
    kept = [key(), replace(key("key_2", "bob 🙂"), expires_at=9)]
    for one in kept:
        file.add(one)
    assert list(file.keys()) == kept
    assert list(KeyFile(file.path).keys()) == kept


def test_another_process_s_changes_are_seen(file: KeyFile) -> None:
    file.add(key())
    assert len(file.keys()) == 1
    KeyFile(file.path).add(key("key_2"))
    assert len(file.keys()) == 2
    KeyFile(file.path).revoke("key_1", 7)
    first, second = file.keys()
    assert (first.revoked_at, second.revoked_at) == (7, None)
    file.path.unlink()
    assert list(file.keys()) == []


def test_revoking_twice_keeps_the_first_time(file: KeyFile) -> None:
    file.add(key())
    assert file.revoke("key_1", 7) == replace(key(), revoked_at=7)
    assert file.revoke("key_1", 8).revoked_at == 7


def test_an_unknown_key_cannot_be_revoked(file: KeyFile) -> None:
    file.add(key())
    with pytest.raises(NotFoundError):
        file.revoke("key_2", 7)
    assert list(file.keys()) == [key()]


@pytest.mark.usefixtures("open_handed")
def test_the_files_are_their_owner_s_alone(file: KeyFile) -> None:
    file.add(key())
    made = list(file.path.parent.iterdir())
    assert {stat.S_IMODE(one.stat().st_mode) for one in made} == {0o600}
    assert f"{file.path.name}.new" not in {one.name for one in made}


def test_a_key_s_text_is_not_in_the_file(file: KeyFile) -> None:
    file.add(key())
    assert SECRET not in file.path.read_text()


def test_many_who_add_at_once_lose_none(file: KeyFile) -> None:
    def add(number: int) -> None:
        KeyFile(file.path).add(key(f"key_{number}"))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(add, range(40)))
    kept = file.keys()
    assert {one.id for one in kept} == {f"key_{number}" for number in range(40)}
