"""Tests of the settings: which source wins, other names, and one line where one cannot be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from server.config.settings import Settings, SettingsError, load, variables

pytestmark = pytest.mark.usefixtures("no_settings")


def write(toml: str = "", env: str = "") -> None:
    Path("trialogue.toml").write_text(toml, encoding="utf-8")
    Path(".env").write_text(env, encoding="utf-8")


def refused(**flags: Any) -> str:
    with pytest.raises(SettingsError) as error:
        load(flags)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_defaults_are_for_this_machine_alone() -> None:
    settings = load()
    assert (settings.host, settings.http_port, settings.grpc_port) == ("127.0.0.1", 8000, 9000)
    assert (settings.websocket_port, settings.max_body_bytes) == (9001, 10 << 20)
    assert settings.database_path == Path("trialogue.db")
    assert settings.openai_api_key is None
    assert not settings.public


def test_flags_win_over_environment_over_dotenv_over_toml(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load().model is None
    write(toml='model = "toml"')
    assert load().model == "toml"
    write(toml='model = "toml"', env="TRIALOGUE_MODEL=dotenv")
    assert load().model == "dotenv"
    monkeypatch.setenv("TRIALOGUE_MODEL", "environment")
    assert load().model == "environment"
    assert load({"model": "flag"}).model == "flag"


OTHER_NAMES = [(field, name) for field in Settings.model_fields for name in variables(field)[1:]]
VALUES = {"openai_base_url": "http://{}.example/v1"}
CHOICES = {
    "log_format": "json",
    "context_window": "5",
    "max_tokens": "5",
    "rate_limit": "60/minute",
    "token_budget": "100000/day",
    "max_turns_per_key": "5",
    "max_connections_per_key": "5",
    "max_connections_per_address": "5",
    "forwarded_allow_ips": "10.0.0.0/8",
}


def value_of(field: str, source: str) -> str:
    return VALUES.get(field, "{}").format(source)


@pytest.mark.parametrize(("field", "name"), OTHER_NAMES)
def test_every_name_of_a_setting_is_read(
    field: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value_of(field, "environment"))
    assert getattr(load(), field) == value_of(field, "environment")
    assert getattr(load({field: value_of(field, "flag")}), field) == value_of(field, "flag")


@pytest.mark.parametrize(("field", "name"), OTHER_NAMES)
def test_the_source_counts_and_not_the_name(
    field: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another name in the environment wins over the first name in a file."""
    first = variables(field)[0]
    write(toml=f'{field} = "{value_of(field, "toml")}"')
    monkeypatch.setenv(name, value_of(field, "environment"))
    assert getattr(load(), field) == value_of(field, "environment")
    monkeypatch.delenv(name)
    write(toml=f'{field} = "{value_of(field, "toml")}"', env=f"{name}={value_of(field, 'dotenv')}")
    assert getattr(load(), field) == value_of(field, "dotenv")
    write(env=f"{first}={value_of(field, 'dotenv')}")
    monkeypatch.setenv(name, value_of(field, "environment"))
    assert getattr(load(), field) == value_of(field, "environment")


def test_within_a_source_the_first_name_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEFAULT_MODEL", "third")
    monkeypatch.setenv("GPT_ENGINE", "second")
    assert load().model == "second"
    monkeypatch.setenv("TRIALOGUE_MODEL", "first")
    assert load().model == "first"


@pytest.mark.parametrize("field", Settings.model_fields)
def test_an_empty_variable_is_as_if_it_were_not_set(
    field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in variables(field):
        monkeypatch.setenv(name, "")
    write(env="".join(f"{name}=\n" for name in variables(field)))
    assert getattr(load(), field) == getattr(Settings(), field)


def test_an_empty_variable_hides_nothing_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    write(toml='model = "toml"', env="TRIALOGUE_MODEL=\n")
    monkeypatch.setenv("TRIALOGUE_MODEL", "")
    assert load().model == "toml"
    monkeypatch.setenv("DEFAULT_MODEL", "other")
    assert load().model == "other"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("http_port", "70000"),
        ("grpc_port", "-1"),
        ("websocket_port", "http"),
        ("context_window", "0"),
        ("max_tokens", "-5"),
        ("max_body_bytes", "lots"),
        ("max_body_bytes", "0"),
        ("rate_limit", "60"),
        ("token_budget", "100000/hour"),
        ("max_turns", "0"),
        ("max_turns_per_key", "0"),
        ("max_connections_per_key", "-1"),
        ("max_connections_per_address", "many"),
        ("upstream_timeout", "nan"),
        ("upstream_timeout", "inf"),
        ("upstream_retries", "-1"),
        ("upstream_retries", "1.5"),
        ("drain_seconds", "-1"),
        ("drain_seconds", "soon"),
        ("eliza_delay", "nan"),
        ("openai_base_url", "localhost:8080"),
        ("openai_base_url", "ftp://x"),
        ("openai_base_url", "http://"),
        ("openai_base_url", "http://h:99999"),
        ("openai_base_url", "http://h:0"),
        ("openai_base_url", "http://user:secret"),
        ("openai_base_url", "http://[x"),
        ("openai_base_url", "http://a..b"),
        ("openai_base_url", "http://a b"),
        ("openai_api_key", "sk 1"),
        ("openai_api_key", "sk-ä"),
        ("database", "mysql://x"),
        ("database", "sqlite:///"),
        ("database", "sqlite:trialogue.db"),
        ("database", ":memory:"),
        ("database", " "),
        ("auth", "maybe"),
        ("log_level", "loud"),
        ("log_format", "xml"),
        ("root_path", "chat"),
        ("root_path", "//evil.example"),
        ("root_path", "/a/../b"),
        ("root_path", "https://chat.example/chat"),
        ("root_path", "/a b"),
        ("forwarded_allow_ips", "proxy.example"),
        ("forwarded_allow_ips", "10.0.0.1/8"),
        ("forwarded_allow_ips", "none,10.0.0.1"),
    ],
)
def test_what_cannot_be_is_one_line_that_names_the_variable(
    field: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = variables(field)[0]
    assert (told := refused(**{field: value})).startswith(f"{name}: ")
    assert "secret" not in told
    monkeypatch.setenv(name, value)
    assert refused().startswith(f"{name}: ")
    monkeypatch.delenv(name)
    write(toml=f'{field} = "{value}"')
    assert name in refused()


@pytest.mark.parametrize(
    ("field", "written", "meant"),
    [
        ("log_level", "INFO", "info"),
        ("log_level", "Off ", "off"),
        ("log_format", "JSON", "json"),
        ("auth", "OFF", "off"),
    ],
)
def test_a_word_may_be_written_in_great_letters(
    monkeypatch: pytest.MonkeyPatch, field: str, written: str, meant: str
) -> None:
    monkeypatch.setenv(variables(field)[0], written)
    assert getattr(load(), field) == meant


@pytest.mark.parametrize(
    ("field", "written", "meant"),
    [
        ("root_path", " /a/chat/ ", "/a/chat"),
        ("root_path", "/", ""),
        ("forwarded_allow_ips", "10.0.0.0/8, ::1 ,10.0.0.0/8", ("10.0.0.0/8", "::1")),
        ("forwarded_allow_ips", "*", ("*",)),
        ("forwarded_allow_ips", "none", ()),
        ("forwarded_allow_ips", "", ("127.0.0.1", "::1")),
    ],
)
def test_of_proxies(
    monkeypatch: pytest.MonkeyPatch, field: str, written: str, meant: object
) -> None:
    monkeypatch.setenv(variables(field)[0], written)
    assert getattr(load(), field) == meant


def test_a_secret_is_never_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("TRIALOGUE_API_KEYS", "ada:secret")
    settings = load()
    assert "secret" not in f"{settings} {settings!r}"
    monkeypatch.setenv("TRIALOGUE_HTTP_PORT", "x")
    assert "secret" not in refused()
    monkeypatch.delenv("TRIALOGUE_HTTP_PORT")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret\n")
    assert "secret" not in (told := refused())
    assert told.startswith("OPENAI_API_KEY: ")


def test_certificate_and_key_go_together() -> None:
    assert "TRIALOGUE_TLS_KEY" in refused(tls_cert="cert.pem")
    assert load({"tls_cert": "cert.pem", "tls_key": "key.pem"}).tls_key == Path("key.pem")


@pytest.mark.parametrize(
    ("toml", "told"),
    [
        ('modell = "gpt-4o"', "modell"),
        ('TRIALOGUE_MODEL = "gpt-4o"', "TRIALOGUE_MODEL"),
        ("[server]\nport = 1", "server"),
        ("model = ", "trialogue.toml"),
        ("\x00", "trialogue.toml"),
    ],
)
def test_a_toml_file_that_cannot_be_is_one_line(toml: str, told: str) -> None:
    write(toml=toml)
    message = refused()
    assert "trialogue.toml" in message
    assert told in message


ENCODINGS = ["latin-1", "utf-16", "utf-16-le", "utf-32"]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("name", [".env", "trialogue.toml"])
def test_a_file_in_another_encoding_is_named(name: str, encoding: str) -> None:
    line = '# ours\nmodel = "café"\n' if name.endswith("toml") else "# ours\nGPT_ENGINE=café\n"
    Path(name).write_bytes(line.encode(encoding))
    told = refused()
    assert told.startswith(f"{name}: ")
    assert told.endswith("save it anew with the encoding UTF-8")


def test_a_file_may_begin_with_a_mark() -> None:
    Path(".env").write_text("GPT_ENGINE=café\n", encoding="utf-8-sig")
    Path("trialogue.toml").write_text('encoding = "gpt2"\n', encoding="utf-8-sig")
    settings = load()
    assert (settings.model, settings.encoding) == ("café", "gpt2")


@pytest.mark.parametrize("name", [".env", "trialogue.toml", "round.db"])
def test_a_link_that_leads_in_a_circle_is_named(name: str) -> None:
    Path(name).symlink_to(name)
    told = refused(**({"database": f"sqlite:///{name}"} if name.endswith("db") else {}))
    assert f"{name} is a symbolic link that leads in a circle" in told


def test_a_folder_that_leads_in_a_circle_is_named() -> None:
    Path("round").symlink_to("round")
    assert "round/in.db is a symbolic link" in refused(database="sqlite:///round/in.db")


def test_a_toml_file_has_numbers_and_lists() -> None:
    write(toml='http_port = 8080\nallowed_origins = ["https://a.example", "https://b.example"]')
    settings = load()
    assert settings.http_port == 8080
    assert settings.allowed_origins == ("https://a.example", "https://b.example")


@pytest.mark.parametrize(
    ("given", "listed"),
    [
        ("https://A.example/, http://b.example:81", ("https://a.example", "http://b.example:81")),
        ("*", ("*",)),
        (" , ", ()),
        ("file://, File:///", ("file://", "file://")),
    ],
)
def test_names_are_separated_by_commas(
    given: str, listed: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(toml=f"allowed_origins = {json.dumps(given.split(','))}")  # a list there means the same
    assert load().allowed_origins == listed
    monkeypatch.setenv("TRIALOGUE_ALLOWED_ORIGINS", given)
    assert load().allowed_origins == listed


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("http://localhost:8080", "http://localhost:8080/v1"),
        ("http://localhost:8080/", "http://localhost:8080/v1"),
        ("https://api.example/openai/v2", "https://api.example/openai/v2"),
    ],
)
def test_an_upstream_without_a_path_is_at_v1(given: str, used: str) -> None:
    assert load({"openai_base_url": given}).openai_base_url == used


@pytest.mark.parametrize(
    ("given", "size"), [("10485760", 10 << 20), ("2MiB", 2 << 20), ("1kB", 1000)]
)
def test_sizes_have_units(given: str, size: int) -> None:
    assert load({"max_body_bytes": given}).max_body_bytes == size


@pytest.mark.parametrize(
    ("host", "public"),
    [
        ("127.0.0.1", False),
        ("127.0.0.9", False),
        ("::1", False),
        ("localhost", False),
        ("0.0.0.0", True),
        ("::", True),
        ("192.168.1.5", True),
        ("127.example.com", True),
    ],
)
def test_an_address_that_others_reach_is_public(host: str, public: bool) -> None:
    assert load({"host": host}).public is public


@pytest.mark.parametrize(
    ("given", "exposed"),
    [
        ({}, False),
        ({"host": "0.0.0.0"}, True),
        ({"allowed_hosts": "chat.example"}, True),
        ({"allowed_hosts": "localhost:8000,me.localhost,127.0.0.2,[::1]"}, False),
        ({"allowed_hosts": "localhost,chat.example"}, True),
        ({"allowed_hosts": "*"}, True),
        ({"allowed_origins": "https://app.example"}, False),
        ({"allowed_origins": "https://app.example,*"}, True),
    ],
)
def test_who_lets_others_in_is_exposed(given: dict[str, str], exposed: bool) -> None:
    assert load(given).exposed is exposed


@pytest.mark.parametrize(
    ("database", "path"),
    [
        ("sqlite:///a.db", "a.db"),
        ("sqlite:////data/a b.db", "/data/a b.db"),
        ("other.db", "other.db"),
        ("./in/other.db", "in/other.db"),
        ("/data/a b.db", "/data/a b.db"),
    ],
)
def test_a_database_is_a_path(database: str, path: str) -> None:
    assert load({"database": database}).database_path == Path(path)


def test_a_database_of_postgresql_is_no_path() -> None:
    settings = load({"database": "postgresql://ada:sesame@db/history?pool_size=4"})
    assert settings.on_postgres
    with pytest.raises(SettingsError, match="postgresql://ada@db/history is no file"):
        _ = settings.database_path


@pytest.mark.parametrize(
    "url", ["mysql://h/d", "postgresql://ada:sesame@h/d?pool_size=few", "sqlite://x", ""]
)
def test_what_is_no_database_is_refused_and_its_password_not_told(url: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load({"database": url or "sqlite:///"})
    assert str(refused.value).startswith("TRIALOGUE_DATABASE: ")
    assert "sesame" not in str(refused.value)


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        setattr(load(), "host", "0.0.0.0")  # noqa: B010 - a type checker would refuse it


def test_every_setting_has_a_variable_and_a_word_of_help() -> None:
    names = [name for field in Settings.model_fields for name in variables(field)]
    assert len(names) == len(set(names))
    for field, info in Settings.model_fields.items():
        assert info.description, field
        assert variables(field)[0].startswith(("TRIALOGUE_", "OPENAI_")), field


@pytest.mark.parametrize("field", Settings.model_fields)
def test_every_setting_can_be_in_the_toml_file(field: str) -> None:
    default = Settings.model_fields[field].default
    value = value_of(field, "toml") if default is None else default
    if isinstance(default, int | float):
        write(toml=f"{field} = {default}")
    elif isinstance(default, BaseModel):
        write(toml="[local]\ncontext = 4096")
    elif default != ():
        write(toml=f'{field} = "{CHOICES.get(field, value)}"')
    if not field.startswith("tls"):  # these two go together
        load()


def test_local_models_are_a_table_of_names_and_of_how_they_are_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write(toml='[local]\nmodels = ["qwen", "embed"]\ncontext = 4096\nidle_unload = "1h"')
    settings = load()
    assert settings.local == ("qwen", "embed")
    assert (settings.local_options.context, settings.local_options.idle_unload) == (4096, 3600)
    monkeypatch.setenv("TRIALOGUE_LOCAL", " other , other,qwen")
    assert load().local == ("other", "qwen")
    assert load().local_options.context == 4096
    monkeypatch.setenv("TRIALOGUE_LOCAL_OPTIONS", '{"parallel": 3}')
    assert load().local_options.parallel == 3


@pytest.mark.parametrize(
    ("toml", "told"),
    [
        ('local = "qwen"', "is a table"),
        ("[local]\ncontext = 1", "context"),
        ("[local]\nwindow = 4096", "window"),
        ('[local]\nidle_unload = "soon"', "a time such as 10m"),
        ('[local]\nengine = "vllm"', "engine"),
        ("[local]\nkeep_loaded = 0", "keep_loaded"),
    ],
)
def test_a_wrong_table_of_local_models_is_one_line(toml: str, told: str) -> None:
    write(toml=toml)
    with pytest.raises(SettingsError, match=told) as refused:
        load()
    assert "\n" not in str(refused.value)
