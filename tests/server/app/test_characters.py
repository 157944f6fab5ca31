"""Characters and templates of the settings: read, refused in one line, shown, and used."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from server.__main__ import main
from server.app.characters import shaping_of
from server.app.upstreams import upstreams_of
from server.config.settings import SettingsError, load
from server.core.turns.questions import Ask
from storage.model import PromptMessage, Role

pytestmark = pytest.mark.usefixtures("own_folder")


TABLES = '''
[characters.Pirate]
system_prompt = "You are a pirate."
greeting = "Arr!"
model = "gpt-4"

[templates.mine]
template = """
{% for message in messages %}
<{{ message.role }}>{{ message.content }}
{% endfor %}
<assistant>"""
stop = ["<user>"]

[templates.alpaca]
template = "mine: %1"
'''


def only_text(model: str) -> bool:
    return model == "base"


async def test_what_the_tables_name_can_be_asked_for() -> None:
    Path("trialogue.toml").write_text(TABLES)
    characters = shaping_of(load(), only_text)
    character = characters.character(Ask("Hi", character="pirate"))
    told = (character.system_prompt, character.greeting, character.model)
    assert told == ("You are a pirate.", "Arr!", "gpt-4")
    messages = [PromptMessage(Role.USER, "Hi")]
    mine = await characters.template(Ask("Hi", instruction_template="Mine"), "gpt-4o")
    assert mine is not None
    assert mine.render(messages) == "<user>Hi\n<assistant>"
    assert mine.stops == ("<user>",)
    own = await characters.template(Ask("Hi", instruction_template="alpaca"), "gpt-4o")
    assert own is not None
    assert own.render(messages) == "mine: Hi"
    assert await characters.template(Ask("Hi"), "gpt-4o") is None
    assert await characters.template(Ask("Hi"), "base") is not None


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ("[characters.x]", "TRIALOGUE_CHARACTERS.x: must have a system_prompt, or a greeting"),
        ('[characters.x]\ngreting = "Hi"', "TRIALOGUE_CHARACTERS.x.greting"),
        ('[characters.x]\ngreeting = " "', "TRIALOGUE_CHARACTERS.x.greeting"),
        ("characters = 3", "TRIALOGUE_CHARACTERS"),
        ('[characters.x]\ngreeting = "a"\n[characters.X]\ngreeting = "b"', "regardless of case"),
        ('[characters.""]\ngreeting = "a"', "names of one line"),
        ('[templates.x]\ntemplate = "{{ prompt"', "TRIALOGUE_TEMPLATES.x.template: The template"),
        ('[templates.x]\ntemplate = "Hello"', "TRIALOGUE_TEMPLATES.x.template: .*%1"),
        ("[templates.x]\ntemplate = \"{{ prompt }}{% include 'a' %}\"", "must not use Include"),
        ('[templates.x]\ntemplate = "%1"\nstop = ["a","b","c","d","e"]', "TEMPLATES.x.stop"),
        ('[templates.x]\ntemplate = "%1"\nstop = [""]', "TEMPLATES.x.stop"),
        ("[templates.x]", "TRIALOGUE_TEMPLATES.x.template"),
    ],
)
def test_a_wrong_table_is_one_line_that_names_it(
    table: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("trialogue.toml").write_text(f"{table}\n")
    with pytest.raises(SettingsError, match=told):
        load()
    assert main(["config"]) != 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("trialogue: ")


def test_they_may_come_as_json_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIALOGUE_CHARACTERS", '{"x": {"greeting": "Hi"}}')
    assert load().characters["x"].greeting == "Hi"
    monkeypatch.setenv("TRIALOGUE_TEMPLATES", "nonsense")
    with pytest.raises(SettingsError, match="TRIALOGUE_TEMPLATES: must be tables by name, as JSON"):
        load()


def test_config_shows_them_each_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    Path("trialogue.toml").write_text(TABLES)
    assert main(["config"]) == 0
    shown = dict(line.split("=", 1) for line in capsys.readouterr().out.splitlines())
    assert json.loads(shown["TRIALOGUE_CHARACTERS"])["Pirate"]["greeting"] == "Arr!"
    assert json.loads(shown["TRIALOGUE_TEMPLATES"])["mine"]["stop"] == ["<user>"]


async def test_an_upstream_s_table_says_which_models_take_text_only(stack: AsyncExitStack) -> None:
    Path("trialogue.toml").write_text(
        '[[upstreams]]\nname = "a"\nbase_url = "http://localhost:1"\nmodels = ["base-*", "gpt-*"]\n'
        'aliases = {"fast" = "base-7b"}\ncompletions_only = ["base-*"]\n'
    )
    upstreams = await upstreams_of(load(), stack)
    asked = ("base-1", "fast", "gpt-4o", "gpt-3.5-turbo-instruct", "eliza", "nobody")
    assert [upstreams.completes_only(name) for name in asked] == [
        True,
        True,
        False,
        True,
        False,
        False,
    ]
