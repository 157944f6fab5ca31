"""The upstreams that settings name, in their order."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from server.app.upstreams import model_of, told, upstreams_of
from server.config.settings import SettingsError, load
from server.upstream.pool import UpstreamPool
from server.upstream.remote.client import UpstreamClient

TABLES = """
[[upstreams]]
name = "local"
base_url = "http://localhost:8080"
key_variable = "LOCAL_KEY"
models = ["llama*", "exact"]
aliases = {"fast" = "llama-3"}
completions_only = ["llama-base-*"]
timeout = 5
first_byte_timeout = 2

[[upstreams]]
name = "other"
base_url = "http://localhost:8081/v1"
models = ["qwen*"]
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("LOCAL_KEY=secret\n")


async def members(stack: AsyncExitStack, **flags: str) -> UpstreamPool:
    return await upstreams_of(load(flags), stack)


async def test_eliza_alone_serves_every_model(stack: AsyncExitStack) -> None:
    upstreams = await members(stack)
    assert upstreams.first("anything").name == "eliza"
    assert upstreams.first(None).local
    assert model_of(load({})) == "eliza"
    assert "OPENAI_API_KEY" in told(load({}))
    listed = [one["id"] for one in await upstreams.models()]
    assert {"eliza", "gpt-4o", "gpt-3.5-turbo", "text-embedding-3-small"} <= set(listed)


async def test_with_a_key_openai_does_and_eliza_herself_alone(stack: AsyncExitStack) -> None:
    upstreams = await members(stack, openai_api_key="k")
    assert upstreams.first("eliza").name == "eliza"
    assert upstreams.first("gpt-4o").name == "openai"
    assert upstreams.first("gpt-4o").limit_name == "max_completion_tokens"
    assert upstreams.first(None).name == "openai"


async def test_eliza_is_listed_behind_what_is_configured(
    stack: AsyncExitStack, tmp_path: Path
) -> None:
    (tmp_path / "trialogue.toml").write_text(TABLES.replace("localhost:808", "localhost:1/808"))
    listed = [one["id"] for one in await (await members(stack)).models()]
    assert listed == ["fast", "exact", "eliza"]


async def test_tables_come_first_in_their_order(stack: AsyncExitStack, tmp_path: Path) -> None:
    (tmp_path / "trialogue.toml").write_text(TABLES)
    upstreams = await members(stack, openai_base_url="http://localhost:1/v1")
    names = {"llama-3": "local", "exact": "local", "fast": "local", "qwen": "other", "x": "openai"}
    assert {model: upstreams.first(model).name for model in names} == names
    local = upstreams.first("fast")
    assert local.aliases == {"fast": "llama-3"}
    assert local.completions_only == ("llama-base-*",)
    assert local.limit_name == "max_tokens"


async def test_tables_alone(stack: AsyncExitStack, tmp_path: Path) -> None:
    (tmp_path / "trialogue.toml").write_text(TABLES)
    settings = load({})
    assert model_of(settings) == "fast"
    assert told(settings) == "local, other, model fast"
    upstreams = await upstreams_of(settings, stack)
    assert not upstreams.serves("gpt-4o")
    assert upstreams.first(None).name == "local"


async def test_a_model_that_nobody_serves_is_told_at_the_start(
    stack: AsyncExitStack, tmp_path: Path
) -> None:
    (tmp_path / "trialogue.toml").write_text(TABLES)
    with pytest.raises(SettingsError, match="no upstream serves 'gpt-4o'"):
        await members(stack, model="gpt-4o")


async def test_a_key_that_is_not_there_is_told_by_its_variable(
    stack: AsyncExitStack, tmp_path: Path
) -> None:
    (tmp_path / "trialogue.toml").write_text(TABLES)
    (tmp_path / ".env").unlink()
    with pytest.raises(SettingsError, match=r"upstream 'local': LOCAL_KEY is not set"):
        await members(stack)


async def test_a_key_that_none_can_be_is_told_by_its_variable(
    stack: AsyncExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "trialogue.toml").write_text(TABLES)
    monkeypatch.setenv("LOCAL_KEY", "sk-secret\n")
    with pytest.raises(SettingsError, match=r"upstream 'local': LOCAL_KEY has") as refused:
        await members(stack)
    assert "secret" not in str(refused.value)


async def test_a_key_may_stand_behind_the_mark_of_an_editor(
    stack: AsyncExitStack, tmp_path: Path
) -> None:
    (tmp_path / "trialogue.toml").write_text(TABLES)
    (tmp_path / ".env").write_text("LOCAL_KEY=secret\n", encoding="utf-8-sig")
    assert (await members(stack)).serves("fast")


@pytest.mark.parametrize(
    ("table", "told_of"),
    [
        ('name = "a"', "base_url"),
        ('name = "a"\nbase_url = "localhost"', "must be a URL"),
        ('name = "a"\nbase_url = "http://x"\nkey = "sk-1"', "key"),
        ('name = "a"\nbase_url = "http://x"\ntimeout = 0', "timeout"),
        (
            'name = "a"\nbase_url = "http://x"\n[[upstreams]]\nname = "a"\nbase_url = "http://y"',
            "names of their own",
        ),
        ('name = "openai"\nbase_url = "http://x"', r"UPSTREAMS\.0\.name: 'openai' is"),
        ('name = "eliza"\nbase_url = "http://x"', r"UPSTREAMS\.0\.name: 'eliza' is"),
        ('name = "local:x"\nbase_url = "http://x"', r"UPSTREAMS\.0\.name: 'local:x' is"),
    ],
)
def test_a_wrong_table_is_one_line_that_names_it(tmp_path: Path, table: str, told_of: str) -> None:
    (tmp_path / "trialogue.toml").write_text(f"[[upstreams]]\n{table}\n")
    with pytest.raises(SettingsError, match=told_of) as refused:
        load({})
    assert "\n" not in str(refused.value)
    assert "sk-1" not in str(refused.value)


def test_they_may_come_as_json_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIALOGUE_UPSTREAMS", '[{"name": "a", "base_url": "http://x:1"}]')
    (table,) = load({}).upstreams
    assert (table.name, table.base_url) == ("a", "http://x:1/v1")
    monkeypatch.setenv("TRIALOGUE_UPSTREAMS", "nonsense")
    with pytest.raises(SettingsError, match="as JSON"):
        load({})


HOUR = (3600.0, 3600.0, True)


@pytest.mark.parametrize(
    ("flags", "bounds"),
    [
        ({"openai_base_url": "http://localhost:1/v1"}, HOUR),
        ({"openai_base_url": "http://192.168.1.5/v1"}, HOUR),
        ({"openai_base_url": "https://llm.example/v1"}, (600.0, 60.0, False)),
        ({"openai_base_url": "http://localhost:1/v1", "upstream_timeout": "9"}, (9, 3600, True)),
    ],
)
async def test_one_that_is_near_has_an_hour_unless_times_are_set(
    stack: AsyncExitStack, flags: dict[str, str], bounds: tuple[float, float, bool]
) -> None:
    member = (await members(stack, openai_api_key="k", **flags)).first("gpt-4o")
    assert isinstance(member.speaker, UpstreamClient)
    its = member.speaker._bounds
    assert (its.total, its.first_byte, its.comments_count) == bounds
    assert member.near is its.comments_count


async def test_times_of_a_table_count_most(stack: AsyncExitStack, tmp_path: Path) -> None:
    (tmp_path / "trialogue.toml").write_text(TABLES)
    upstreams = await members(stack)
    times = []
    for model in ("fast", "qwen"):
        speaker = upstreams.first(model).speaker
        assert isinstance(speaker, UpstreamClient)
        times.append((speaker._bounds.total, speaker._bounds.first_byte))
    assert times == [(5, 2), (3600, 3600)]
