"""Tests of `trialogue models`: what a person types, and reads."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from server.__main__ import main
from tests.server.commands.captured import Captured
from tests.support.fake_hub import FILE, REPO, FakeHub, fake_hub
from tests.support.tiny_gguf import tiny_gguf

MODEL_NAME = FILE.removesuffix(".gguf")


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRIALOGUE_MODELS", str(tmp_path / "models"))
    for name in ("HF_TOKEN", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
async def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeHub]:
    async with fake_hub(tiny_gguf(tmp_path / "own.gguf").read_bytes()) as served:
        monkeypatch.setenv("HF_ENDPOINT", served.address)
        yield served


async def run(*words: str, captured: Captured) -> tuple[int, str, str]:
    """Run `trialogue models` beside the hub: exit code, output, errors."""
    code = await asyncio.to_thread(main, ("models", *words))
    out, err = captured.readouterr()
    return code, out, err


async def test_a_model_is_found_pulled_listed_shown_checked_and_removed(
    hub: FakeHub, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_1234")
    code, out, _ = await run("search", "tiny", captured=capsys)
    assert (code, out.split()) == (0, ["7", REPO])
    code, out, err = await run("pull", f"{REPO}:Q4_K_M", "--as", "tiny", captured=capsys)
    assert code == 0
    assert "serve it: trialogue serve --local tiny" in out
    assert "100 % of 0.5 MB" in err
    assert set(hub.tokens) == {"Bearer hf_1234"}
    code, out, _ = await run("list", captured=capsys)
    assert code == 0
    assert out.split() == ["tiny", "0.5", "MB", "-", "8,192", "tokens", "apache-2.0", "fits"]
    code, out, _ = await run("show", "tiny", captured=capsys)
    assert code == 0
    assert f"hf:{REPO}/{FILE}" in out
    assert hub.sha256 in out
    code, out, _ = await run("check", captured=capsys)
    assert (code, out) == (0, "ok   tiny\n")
    code, out, _ = await run("pull", REPO, "--as", "tiny", captured=capsys)
    assert (code, "is there already" in out) == (0, True)
    code, out, _ = await run("rm", "tiny", captured=capsys)
    assert (code, out) == (0, "tiny is gone, 0.5 MB are free again\n")
    code, out, _ = await run("list", captured=capsys)
    assert (code, "no models in" in out) == (0, True)


async def test_only_search_and_pull_reach_the_network(hub: FakeHub, capsys: Captured) -> None:
    await run("pull", str(Path("own.gguf").absolute()), captured=capsys)
    for words in (("list",), ("show", "own"), ("check",), ("rm", "own")):
        assert (await run(*words, captured=capsys))[0] == 0
    assert hub.asked == []


async def test_a_damaged_model_is_told_and_ends_with_1(hub: FakeHub, capsys: Captured) -> None:
    await run("pull", REPO, captured=capsys)
    Path("models", FILE).write_bytes(hub.data[:-1])
    code, out, _ = await run("check", MODEL_NAME, captured=capsys)
    assert code == 1
    assert out.startswith(f"BAD  {MODEL_NAME}: it has ")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HF_ENDPOINT", "http://[x"),
        ("HF_ENDPOINT", "http://h:99999"),
        ("HF_ENDPOINT", "hub"),
        ("HF_TOKEN", "hf_secret\n"),
    ],
)
async def test_a_variable_that_cannot_be_is_named(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    code, _, err = await run("search", "tiny", captured=capsys)
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith(f"trialogue: {name} ")
    assert "secret" not in err


async def test_a_link_that_leads_nowhere_hides_no_other(hub: FakeHub, capsys: Captured) -> None:
    await run("pull", REPO, captured=capsys)
    Path("models", "a.gguf").symlink_to("nowhere.gguf")
    for command, good in ("list", f"{MODEL_NAME} "), ("check", f"ok   {MODEL_NAME}"):
        code, out, _ = await run(command, captured=capsys)
        bad, other = out.splitlines()
        assert code == (command == "check")
        assert "BAD" in bad
        assert "leads nowhere" in bad
        assert other.startswith(good)


@pytest.mark.parametrize(
    "record",
    [
        "5",
        "[" * 100_000,
        '{"source": "x", "revision": null, "size": "9", "sha256": "0", "licence": ["mit"]}',
    ],
)
async def test_a_record_that_is_damaged_is_none(
    hub: FakeHub, capsys: Captured, record: str
) -> None:
    await run("pull", REPO, captured=capsys)
    Path("models", f"{MODEL_NAME}.json").write_text(record)
    code, out, _ = await run("show", MODEL_NAME, captured=capsys)
    assert (code, "not recorded" in out) == (0, True)
    assert (await run("list", captured=capsys))[0] == 0
    code, out, _ = await run("check", captured=capsys)
    assert (code, "nobody recorded" in out) == (1, True)


async def test_a_header_of_the_wrong_kind_is_shown_as_bad(capsys: Captured) -> None:
    Path("models").mkdir()
    data = tiny_gguf(Path("own.gguf")).read_bytes()
    key = b"llama.context_length" + struct.pack("<I", 4)
    Path("models", "a.gguf").write_bytes(data.replace(key, key[:-4] + struct.pack("<I", 6)))
    code, out, _ = await run("list", captured=capsys)
    assert (code, "BAD: its header is damaged" in out) == (0, True)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("show", "none"), "model 'none'"),
        (("rm", "none"), "model 'none'"),
        (("rm", "../own"), "is no name"),
        (("pull", "nothing"), "is no OWNER/NAME"),
        (("pull", "a/b"), "has no such thing"),
        (("search", "tiny"), "cannot be reached"),
        (("pull", "https://[x/a.gguf", "--unchecked"), "an address must be"),
        (("pull", "https://h:99999/a.gguf", "--unchecked"), "an address must be"),
    ],
)
async def test_what_cannot_be_is_one_line(
    hub: FakeHub,
    capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    told: str,
) -> None:
    if words[0] == "search":
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    code, out, err = await run(*words, captured=capsys)
    assert (code, out) == (1, "")
    assert told in err
    assert err.count("\n") == 1
    assert Path("own.gguf").exists()
