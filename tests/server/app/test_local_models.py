"""The models on this machine that the settings name, as upstreams."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from server.app.local_models import described, library_of, local_names
from server.app.upstreams import model_of, told, upstreams_of
from server.config.settings import Settings, SettingsError, load
from server.upstream.llama.files.library import default_folder
from server.upstream.port import Prompt, UpstreamFailedError
from storage.model import PromptMessage, Role
from tests.support.tiny_gguf import tiny_gguf


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    for name in ("b", "a"):
        tiny_gguf(tmp_path / "models" / f"{name}.gguf", window=1024)


def settings(local: str, **flags: object) -> Settings:
    return load({"local": local, "models_folder": "models", **flags})


async def test_the_first_that_is_named_is_asked_by_default() -> None:
    chosen = settings("b,a", openai_api_key="k")
    assert model_of(chosen) == "b"
    assert told(chosen) == "this machine, OpenAI, model b"
    async with AsyncExitStack() as stack:
        upstreams = await upstreams_of(chosen, stack)
        assert upstreams.first("a").name == "local:a"
        assert upstreams.first("gpt-4o").name == "openai"
        listed = {one["id"]: one for one in await upstreams.models()}
        assert listed["a"]["owned_by"] == "local"
        assert listed["a"]["status"] == "installed"
        assert listed["a"]["meta"]["n_ctx"] == 1024


async def test_a_model_of_the_settings_comes_before_them() -> None:
    assert model_of(settings("b", model="gpt-4o", openai_api_key="k")) == "gpt-4o"


def test_a_star_is_all_that_are_there() -> None:
    assert local_names(settings("*")) == ("a", "b")
    assert local_names(settings("b,*")) == ("b", "a")
    assert local_names(load({})) == ()
    Path("models", "0.gguf").symlink_to("nowhere.gguf")
    assert local_names(settings("*")) == ("a", "b")


async def test_where_no_model_is_there_eliza_serves_all(tmp_path: Path) -> None:
    empty = settings("*", models_folder=str(tmp_path / "none"))
    assert model_of(empty) == "eliza"
    async with AsyncExitStack() as stack:
        upstreams = await upstreams_of(empty, stack)
        assert upstreams.first("anything").name == "eliza"


@pytest.mark.parametrize(
    ("local", "message"),
    [("none", "there|pull"), ("../a", "no name"), ("a,bad", "cut short"), ("eliza", "built in")],
)
async def test_one_that_cannot_be_served_is_told_at_the_start(
    tmp_path: Path, local: str, message: str
) -> None:
    (tmp_path / "models" / "bad.gguf").write_bytes(b"GGUF")
    tiny_gguf(tmp_path / "models" / "eliza.gguf")
    async with AsyncExitStack() as stack:
        with pytest.raises(SettingsError, match=message) as refused:
            await upstreams_of(settings(local), stack)
    assert "\n" not in str(refused.value)


async def test_how_each_does_is_told(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        upstreams = await upstreams_of(settings("a,b"), stack)
        told_of = {state.name: state.detail for state in upstreams.state()}
        assert told_of["local:b"] == {"model": "b", "loaded": False}
        (tmp_path / "models" / "b.gguf").unlink()
        prompt = Prompt("b", (PromptMessage(Role.USER, "Hi"),))
        with pytest.raises(UpstreamFailedError, match="'b' cannot be loaded: its file is not"):
            async for _ in upstreams.complete(prompt):
                pass


async def test_a_model_without_a_template_is_sent_text(tmp_path: Path) -> None:
    path = tmp_path / "models" / "a.gguf"
    path.write_bytes(
        path.read_bytes().replace(b"tokenizer.chat_template", b"tokenizer.none_template")
    )
    async with AsyncExitStack() as stack:
        upstreams = await upstreams_of(settings("a,b"), stack)
        assert upstreams.completes_only("a")
        assert not upstreams.completes_only("b")


def test_the_folder_is_where_data_of_users_lies() -> None:
    home = {"HOME": "/home/ada"}
    assert default_folder(home, "linux") == Path("/home/ada/.local/share/trialogue/models")
    assert default_folder({**home, "XDG_DATA_HOME": "/d"}, "linux") == Path("/d/trialogue/models")
    mac = Path("/home/ada/Library/Application Support/trialogue/models")
    assert default_folder(home, "darwin") == mac
    assert library_of(settings("a")).folder == Path("models")


def test_what_is_not_known_of_a_model_is_left_out() -> None:
    entry = library_of(settings("a")).entry("a")
    assert described(entry, entry.header(), 512) == {
        "n_ctx": 512,
        "n_ctx_train": 1024,
        "n_params": 115_520,
        "size": entry.size,
    }
