"""Tests of the console command: help, version, keys, config, doctor, and errors of one line."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from server import VERSION
from server.__main__ import main
from server.app import lifecycle
from server.app.remote_upstreams import NEAR_SECONDS
from server.config.settings import Settings, SettingsError, load, variables
from server.core.access.auth import Auth
from storage.keys import KeyFile
from storage.sqlite.store import SQLiteStore
from tests.server.commands.captured import Captured
from tests.support.live import Process

pytestmark = pytest.mark.usefixtures("no_settings")


def run(*words: str, captured: Captured) -> tuple[int, str, str]:
    """Run the command as a user types it: exit code, output, errors."""
    try:
        code = main(words)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    out, err = captured.readouterr()
    return code, out, err


def test_help_has_every_setting_and_its_variables(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    code, out, _ = run("serve", "--help", captured=capsys)
    assert code == 0
    for field, info in Settings.model_fields.items():
        extra = info.json_schema_extra
        if isinstance(extra, dict) and extra["secret"]:
            assert f"--{field.replace('_', '-')} " not in out  # a flag is seen by everybody
            continue
        assert f"--{field.replace('_', '-')} " in out
        assert f"[{', '.join(variables(field))}]" in out
    assert out.count(f"unset: {NEAR_SECONDS:.0f} of an upstream that is near") == 2


@pytest.mark.parametrize("command", ["serve", "chat", "ask", "keys", "config", "doctor", "models"])
def test_every_command_is_shown_and_helps(command: str, capsys: Captured) -> None:
    _, out, _ = run("--help", captured=capsys)
    assert re.search(rf"^\s+{command}\s+\w", out, re.MULTILINE)
    code, out, _ = run(command, "--help", captured=capsys)
    assert code == 0
    assert f"usage: trialogue {command} " in out


def test_the_version_is_the_package_s(capsys: Captured) -> None:
    assert run("--version", captured=capsys) == (0, f"trialogue {VERSION}\n", "")


@pytest.mark.parametrize("words", [(), ("fly",), ("serve", "--fly"), ("keys", "burn")])
def test_what_is_no_command_is_told(words: tuple[str, ...], capsys: Captured) -> None:
    code, out, err = run(*words, captured=capsys)
    assert code == 2
    assert out == ""
    assert "usage: trialogue" in err


# Keys


async def owner_of(file: KeyFile, key: str) -> str:
    return await Auth([], file, lambda: 1, open_to_all=False, public=False).owner(key)


def made(capsys: Captured, *words: str) -> tuple[str, str]:
    """Make a key and return its text and its id."""
    code, out, _ = run("keys", "create", *words, captured=capsys)
    assert code == 0
    key, told = re.match(r"(tk_\S+)\n", out), re.search(r"key_\w+", out)
    assert key is not None
    assert told is not None
    return key[1], told[0]


async def test_a_key_is_made_listed_and_revoked(capsys: Captured) -> None:
    file = KeyFile(Path("trialogue.keys"))
    text, key_id = made(capsys, "alice")
    assert await owner_of(file, text) == "alice"

    code, out, _ = run("keys", "list", captured=capsys)
    assert code == 0
    assert key_id in out
    assert "alice" in out
    assert text not in out

    code, out, _ = run("keys", "revoke", key_id, captured=capsys)
    assert code == 0
    assert "revoked" in out
    with pytest.raises(Exception, match="Incorrect API key"):
        await owner_of(file, text)
    assert "revoked" in run("keys", "list", captured=capsys)[1]


def test_the_first_key_says_that_it_closes_and_the_way_on(capsys: Captured) -> None:
    """What was made without a key is not alice's: a key for that is another."""
    _, out, _ = run("keys", "create", "alice", captured=capsys)
    assert "nobody gets in without a key" in out
    assert "'trialogue keys create default'" in out
    _, out, _ = run("keys", "create", "default", captured=capsys)
    assert "without" not in out


def test_the_first_key_may_be_theirs_whose_all_was(capsys: Captured) -> None:
    _, out, _ = run("keys", "create", "default", captured=capsys)
    assert "nobody gets in without a key" in out
    assert "keys create" not in out


@pytest.mark.parametrize("variable", ["TRIALOGUE_AUTH=off", "TRIALOGUE_API_KEYS=bob:secret"])
def test_a_key_that_closes_nothing_says_nothing(
    variable: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(*variable.split("="))
    _, out, _ = run("keys", "create", "alice", captured=capsys)
    assert "without" not in out


@pytest.mark.parametrize("words", [("list",), ("create", "alice"), ("revoke", "key_1")])
def test_a_file_of_keys_that_cannot_be_read_is_one_line(
    words: tuple[str, ...], capsys: Captured
) -> None:
    Path("round.keys").symlink_to("round.keys")
    Path("bad.keys").write_text("{")
    for name, why in {"round": "symbolic links", "bad": "it is damaged"}.items():
        code, _, err = run("keys", *words, "--database", f"sqlite:///{name}.db", captured=capsys)
        assert code == 2
        assert err.startswith(f"trialogue: keys {name}.keys: ")
        assert why in err


def test_a_key_may_last_for_some_days(capsys: Captured) -> None:
    made(capsys, "alice", "--days", "0.5")
    (kept,) = KeyFile(Path("trialogue.keys")).keys()
    assert kept.expires_at is not None
    assert kept.expires_at - kept.created_at == pytest.approx(12 * 3600 * 1e6, rel=0.01)
    assert "until" in run("keys", "list", captured=capsys)[1]


def test_keys_lie_beside_the_database(capsys: Captured) -> None:
    Path("data").mkdir()
    made(capsys, "alice", "--database", "sqlite:///data/history.db")
    assert [path.name for path in Path("data").glob("*.keys")] == ["history.keys"]


def test_no_keys_are_told_as_none(capsys: Captured) -> None:
    code, out, _ = run("keys", "list", captured=capsys)
    assert code == 0
    assert "no keys" in out


@pytest.mark.parametrize(
    "words",
    [
        ("create",),
        ("revoke",),
        ("revoke", "key_none"),
        ("list", "alice"),
        ("create", ""),
        ("create", "a\nb"),
        ("create", "alice", "--days", "nan"),
        ("create", "alice", "--days", "-1"),
        ("create", "alice", "--days", "inf"),
    ],
)
def test_what_cannot_be_done_with_keys_is_one_line(
    words: tuple[str, ...], capsys: Captured
) -> None:
    code, out, err = run("keys", *words, captured=capsys)
    assert code == 2
    assert out == ""
    assert re.fullmatch(r"trialogue: .+\n", err)


# Config and doctor


def test_config_shows_all_and_hides_secrets(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("TRIALOGUE_API_KEYS", "ada:secret")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://me:secret@h:1/v1?key=secret")
    monkeypatch.setenv("TRIALOGUE_DATABASE", "postgresql://me:secret@h/d?password=secret")
    table = '[{"name": "a", "base_url": "http://secret@b/v1"}]'
    monkeypatch.setenv("TRIALOGUE_UPSTREAMS", table)
    code, out, err = run("config", "--model", "gpt-4", captured=capsys)
    assert (code, err) == (0, "")
    assert "secret" not in out
    lines = dict(line.split("=", 1) for line in out.splitlines())
    assert set(lines) == {variables(field)[0] for field in Settings.model_fields}
    assert lines["TRIALOGUE_MODEL"] == "gpt-4"
    assert lines["OPENAI_API_KEY"]
    assert lines["OPENAI_BASE_URL"] == "http://me:***@h:1/v1?***"
    assert lines["TRIALOGUE_DATABASE"] == "postgresql://me@h/d"
    assert lines["TRIALOGUE_UPSTREAMS"] == table.replace("secret@", "***@")
    assert lines["TRIALOGUE_TLS_KEY"] == ""


FREE = ("--http-port", "0", "--grpc-port", "0", "--websocket-port", "0")


def test_a_doctor_finds_nothing_wrong(capsys: Captured) -> None:
    code, out, _ = run("doctor", *FREE, captured=capsys)
    assert code == 0
    assert "BAD" not in out
    assert {line[:3] for line in out.splitlines()} == {"ok "}
    assert list(Path.cwd().iterdir()) == []  # and changes nothing


def test_a_doctor_names_what_is_wrong(capsys: Captured) -> None:
    Path("bad.db").write_bytes(b"no database at all" * 100)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        words = ("--database", "sqlite:///bad.db", "--encoding", "klingon", "--grpc-port", port)
        code, out, _ = run("doctor", *FREE, *words, captured=capsys)
    assert code == 1
    bad = [line for line in out.splitlines() if line.startswith("BAD")]
    named = ("TRIALOGUE_DATABASE", "TRIALOGUE_ENCODING", "TRIALOGUE_GRPC_PORT")
    assert len(bad) == 3
    assert all(any(name in line for line in bad) for name in named)


def test_a_doctor_looks_on_where_it_could_not_look(capsys: Captured) -> None:
    code, out, err = run("doctor", *FREE, "--database", "a" * 5000, captured=capsys)
    assert (code, err) == (1, "")
    (bad,) = (line for line in out.splitlines() if line.startswith("BAD"))
    assert bad.endswith("File name too long")
    assert "upstream: Eliza" in out


# Serve


FREE_FIELDS = {"http_port": 0, "grpc_port": 0, "websocket_port": 0}


async def refused(**flags: object) -> str:
    """Try to start, and return the line that says why it cannot be."""
    with pytest.raises(SettingsError) as error:
        await lifecycle.run(load({**FREE_FIELDS, **flags}), lambda started: None)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.usefixtures("process_as_it_was")
@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ({"encoding": "klingon"}, "TRIALOGUE_ENCODING"),
        ({"database": "sqlite:///no/such/folder.db"}, "TRIALOGUE_DATABASE"),
        ({"database": "sqlite:///bad.db"}, "TRIALOGUE_DATABASE"),
        ({"host": "no.such.host.invalid"}, "TRIALOGUE_HTTP_PORT"),
        ({"host": "no.such.host.invalid"}, "port 0: Name or service not known"),
        ({"database": "sqlite:///round.db"}, "keys round.keys: Too many levels of symbolic links"),
        ({"tls_cert": "none.pem", "tls_key": "none.pem"}, "TRIALOGUE_TLS_CERT"),
        ({"tls_cert": "bad.db", "tls_key": "bad.db"}, "TRIALOGUE_TLS_CERT"),
    ],
)
async def test_a_start_that_cannot_be_is_one_line(flags: dict[str, str], told: str) -> None:
    Path("bad.db").write_bytes(b"no database at all" * 100)
    Path("round.keys").symlink_to("round.keys")
    assert told in await refused(**flags)


@pytest.mark.usefixtures("process_as_it_was")
@pytest.mark.parametrize("port", ["http_port", "grpc_port", "websocket_port"])
async def test_a_port_that_is_taken_is_one_line(port: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        line = await refused(**{port: number})
    assert line.startswith(f"TRIALOGUE_{port.upper()}: ")
    assert str(number) in line
    assert f"--{port.replace('_', '-')}" in line
    await let_go_of("trialogue.db")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "only this machine is let in"),
        (("--allowed-hosts", "chat.example"), "ALLOWED_HOSTS and _ORIGINS name, a key is needed"),
        (("--allowed-hosts", "chat.example"), "the first start makes one"),
        (("--allowed-hosts", "chat.example", "--auth", "off"), "let in without a key"),
    ],
)
def test_a_doctor_says_who_is_let_in(words: tuple[str, ...], told: str, capsys: Captured) -> None:
    assert told in run("doctor", *FREE, *words, captured=capsys)[1]


@pytest.mark.usefixtures("process_as_it_was")
async def test_what_a_server_writes_is_nobody_else_s_to_read() -> None:
    """Whatever writes it: our own code, SQLite, a library."""
    await refused(database="sqlite:///no/such/folder.db")
    Path("made").touch()
    assert Path("made").stat().st_mode & 0o777 == 0o600


async def let_go_of(database: str) -> None:
    """A start that failed leaves its database free."""
    async with SQLiteStore(database) as store:
        await store.ping()


async def test_a_log_can_be_off(tmp_path: Path) -> None:
    async with Process(tmp_path, "--log-level", "off") as process:
        process.terminate()
        assert await process.ended() == 0
        assert process.log == ""
