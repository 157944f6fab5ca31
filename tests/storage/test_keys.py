"""Tests of the key file: digests alone, for its owner's eyes, safe among processes."""

from __future__ import annotations

import hashlib
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from storage.keys import KeyFile
from storage.model import ApiKey
from storage.port import NotFoundError

SECRET = "tk_a-secret"


def key(id: str = "key_1", owner: str = "ada") -> ApiKey:  # noqa: A002
    return ApiKey(id, owner, hashlib.sha256(SECRET.encode()).digest(), 5)


def test_no_file_is_no_keys_and_reading_makes_none(key_file: KeyFile) -> None:
    assert list(key_file.keys()) == []
    assert not key_file.path.exists()


def test_keys_come_back_as_they_were_added(key_file: KeyFile) -> None:
    kept = [key(), replace(key("key_2", "bob 🙂"), expires_at=9)]
    for one in kept:
        key_file.add(one)
    assert list(key_file.keys()) == kept
    assert list(KeyFile(key_file.path).keys()) == kept


def test_another_process_s_changes_are_seen(key_file: KeyFile) -> None:
    key_file.add(key())
    assert len(key_file.keys()) == 1
    KeyFile(key_file.path).add(key("key_2"))
    assert len(key_file.keys()) == 2
    KeyFile(key_file.path).revoke("key_1", 7)
    first, second = key_file.keys()
    assert (first.revoked_at, second.revoked_at) == (7, None)
    key_file.path.unlink()
    assert list(key_file.keys()) == []


def test_revoking_twice_keeps_the_first_time(key_file: KeyFile) -> None:
    key_file.add(key())
    assert key_file.revoke("key_1", 7) == replace(key(), revoked_at=7)
    assert key_file.revoke("key_1", 8).revoked_at == 7


def test_an_unknown_key_cannot_be_revoked(key_file: KeyFile) -> None:
    key_file.add(key())
    with pytest.raises(NotFoundError):
        key_file.revoke("key_2", 7)
    assert list(key_file.keys()) == [key()]


@pytest.mark.usefixtures("open_umask")
def test_the_files_are_their_owner_s_alone(key_file: KeyFile) -> None:
    key_file.add(key())
    made = list(key_file.path.parent.iterdir())
    assert {stat.S_IMODE(one.stat().st_mode) for one in made} == {0o600}
    assert f"{key_file.path.name}.new" not in {one.name for one in made}


def test_a_key_s_text_is_not_in_the_file(key_file: KeyFile) -> None:
    key_file.add(key())
    assert SECRET not in key_file.path.read_text()


def test_many_who_add_at_once_lose_none(key_file: KeyFile) -> None:
    def add(number: int) -> None:
        KeyFile(key_file.path).add(key(f"key_{number}"))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(add, range(40)))
    kept = key_file.keys()
    assert {one.id for one in kept} == {f"key_{number}" for number in range(40)}
