"""Tests of the doctor: each thing that can be wrong has its line, and what to do about it."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from server.commands.certificate import good_until
from storage.sqlite.store import SQLiteStore
from tests.storage.nouns import exchange
from tests.support.forked import fork
from tests.support.live import ANY_PORTS, Fork
from tests.support.upstream_script import document
from tests.support.upstream_server import ScriptedUpstream

KEY = "sk-very-secret"


async def doctor(
    folder: Path, *words: str, code: int = 0, env: Mapping[str, str] | None = None
) -> list[str]:
    """Run the command as a user types it, and return its lines."""
    its = {"PATH": os.environ["PATH"], **(env or {})}
    process = await fork("doctor", *ANY_PORTS, *words, folder=folder, env=its)
    output, errors = await process.communicate()
    assert errors.decode() == ""
    assert KEY not in output.decode()
    lines = output.decode().splitlines()
    assert {line[:5] for line in lines} <= {"ok   ", "BAD  "}
    assert process.returncode == code, lines
    assert bad(lines) if code else not bad(lines)
    return lines


def bad(lines: list[str]) -> list[str]:
    return [line for line in lines if line.startswith("BAD")]


def only_bad(lines: list[str]) -> str:
    (line,) = bad(lines)
    return line


def about(lines: list[str], what: str) -> str:
    (line,) = [line for line in lines if line[5:].startswith(what)]
    return line


async def test_all_is_well_and_nothing_is_changed(tmp_path: Path) -> None:
    lines = await doctor(tmp_path)
    assert "cl100k_base" in about(lines, "encodings")
    assert "Eliza" in about(lines, "upstream")
    assert "is not there yet" in about(lines, "database")
    assert list(tmp_path.iterdir()) == []


async def test_a_database_is_looked_through_and_left_as_it_is(tmp_path: Path) -> None:
    async with SQLiteStore(tmp_path / "trialogue.db") as store:
        await exchange(store)
    lines = await doctor(tmp_path)
    assert "whole" in about(lines, "database trialogue.db")
    assert "no server has it open" in about(lines, "database trialogue.db")
    assert [one.name for one in tmp_path.iterdir()] == ["trialogue.db"]


async def test_a_server_that_runs_is_no_trouble(tmp_path: Path) -> None:
    async with Fork(tmp_path) as server:
        port = server.http.rpartition(":")[2]
        lines = await doctor(tmp_path, "--http-port", port)
        assert "a server has it open" in about(lines, "database trialogue.db")
        assert "is taken, as it is by a server that runs" in about(lines, "TRIALOGUE_HTTP_PORT")


async def test_what_is_wrong_with_a_database(tmp_path: Path) -> None:
    (tmp_path / "diary").write_bytes(b"Dear diary,\n" * 400)
    (tmp_path / "empty").touch()
    async with SQLiteStore(tmp_path / "torn") as store:
        await exchange(store)
    content = bytearray((tmp_path / "torn").read_bytes())
    content[20 * 4096 : 24 * 4096] = b"\xff" * 4 * 4096
    (tmp_path / "torn").write_bytes(content)
    for name in ("diary", "empty", "torn"):
        lines = await doctor(tmp_path, "--database", f"sqlite:///{name}", code=1)
        assert "trialogue restore BACKUP" in only_bad(lines)
    lines = await doctor(tmp_path, "--database", "sqlite:///none/x.db", code=1)
    assert "there is no folder" in only_bad(lines)


async def test_settings_that_cannot_be_read(tmp_path: Path) -> None:
    assert "TRIALOGUE_DRAIN_SECONDS" in only_bad(
        await doctor(tmp_path, "--drain-seconds", "-1", code=1)
    )


async def test_what_is_wrong_with_keys(tmp_path: Path) -> None:
    keys = tmp_path / "trialogue.keys"
    keys.write_text("no keys")
    keys.chmod(0o600)
    assert "it is damaged; bring it back" in only_bad(await doctor(tmp_path, code=1))
    keys.write_text(
        '{"version": 1, "keys": [{"id": "k", "owner": "ada", "digest": "00", '
        '"created_at": 1, "expires_at": 2, "revoked_at": null}]}'
    )
    keys.chmod(0o644)
    first, second = bad(await doctor(tmp_path, code=1))
    assert f"chmod 600 {keys.name}" in first
    assert "trialogue keys create" in second


@asynccontextmanager
async def upstream_that_refuses(status: int) -> AsyncIterator[str]:
    """An upstream that answers every request with one status."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 %d No\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}" % status)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"


async def test_an_upstream_is_asked_for_its_models(tmp_path: Path) -> None:
    async with ScriptedUpstream(models=("gpt-4o-mini", "llama")) as upstream:
        env = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": upstream.base_url}
        lines = await doctor(tmp_path, "--model", "llama", env=env)
        assert "takes its key, lists 2 models" in about(lines, "upstream")
        lines = await doctor(tmp_path, "--model", "gpt-4", code=1, env=env)
        assert "does not list gpt-4; it lists gpt-4o-mini, llama" in only_bad(lines)


async def test_upstreams_that_cannot_be_asked(tmp_path: Path) -> None:
    async with upstream_that_refuses(401) as refusing, upstream_that_refuses(404) as silent:
        env = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": refusing}
        line = only_bad(await doctor(tmp_path, code=1, env=env))
        assert "refused its key (401); put a good one in OPENAI_API_KEY" in line
        env["OPENAI_BASE_URL"] = silent
        assert "lists no models (404)" in about(await doctor(tmp_path, env=env), "upstream")
    env["OPENAI_BASE_URL"] = silent  # which is not there any more
    assert "could not be reached" in only_bad(await doctor(tmp_path, code=1, env=env))


async def test_servers_of_tools_are_begun(tmp_path: Path) -> None:
    program = str(Path(__file__).parents[2] / "support" / "mcp_server.py")
    tables = [{"name": "weather", "command": [sys.executable, program]}]
    lines = await doctor(tmp_path, env={"TRIALOGUE_MCP": json.dumps(tables)})
    assert "weather: has 3 tools" in about(lines, "MCP server")
    tables[0]["command"] = ["/does/not/exist"]
    lines = await doctor(tmp_path, code=1, env={"TRIALOGUE_MCP": json.dumps(tables)})
    assert "weather: is not there; look at /does/not/exist" in only_bad(lines)


async def test_each_upstream_of_the_settings_has_its_line(tmp_path: Path) -> None:
    async with (
        ScriptedUpstream(models=("llama-3",)) as good,
        upstream_that_refuses(403) as refusing,
    ):
        (tmp_path / "trialogue.toml").write_text(f"""
model = "fast"
[[upstreams]]
name = "mine"
base_url = "{good.base_url}"
models = ["llama-3"]
aliases = {{ fast = "llama-3" }}
[[upstreams]]
name = "theirs"
base_url = "{refusing}"
key_variable = "THEIR_KEY"
[[upstreams]]
name = "lost"
base_url = "{refusing}"
key_variable = "LOST_KEY"
""")
        lines = await doctor(tmp_path, code=1, env={"THEIR_KEY": KEY})
    assert about(lines, "upstream mine").startswith("ok")
    theirs, lost = bad(lines)
    assert "upstream theirs: refused its key (403); put a good one in THEIR_KEY" in theirs
    assert "LOST_KEY is not set" in lost


@pytest.mark.parametrize(
    ("told", "more", "says"),
    [
        ({"max_model_len": 4096}, {}, "the window of llama is 4,096 tokens"),
        ({}, {}, "nobody tells the context window of llama: set context_window"),
        ({"max_model_len": -1}, {}, "nobody tells the context window of llama"),
        ({"max_model_len": 1e308}, {}, "nobody tells the context window of llama"),
        ({}, {"TRIALOGUE_CONTEXT_WINDOW": "4096"}, None),
    ],
)
async def test_the_window_of_the_model_is_told(
    tmp_path: Path, told: Mapping[str, object], more: Mapping[str, str], says: str | None
) -> None:
    async with ScriptedUpstream(models=("llama",)) as upstream:
        upstream.listing = document({"object": "list", "data": [{"id": "llama", **told}]})
        env = {"OPENAI_BASE_URL": upstream.base_url, "TRIALOGUE_MODEL": "llama", **more}
        line = about(await doctor(tmp_path, env=env), "upstream")
    if says is None:
        assert "window" not in line
    else:
        assert says in line


def certificate(folder: Path, name: str, days: int) -> tuple[Path, Path]:
    """Make a certificate of this machine that is good for some days."""
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-subj", "/CN=localhost", "-days", str(days)),
            *("-keyout", str(key), "-out", str(cert)),
        ],
        check=True,
        capture_output=True,
    )
    return cert, key


async def test_a_certificate_has_days_left(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path, "long", 90)
    lines = await doctor(tmp_path, "--tls-cert", str(cert), "--tls-key", str(key))
    assert "fits its key, and is good for 8" in about(lines, "certificate")
    soon, soon_key = certificate(tmp_path, "soon", 3)
    line = only_bad(
        await doctor(tmp_path, "--tls-cert", str(soon), "--tls-key", str(soon_key), code=1)
    )
    assert "ends in 2 days" in line
    wrong = await doctor(tmp_path, "--tls-cert", str(cert), "--tls-key", str(soon_key), code=1)
    assert "do not belong together" in only_bad(wrong)
    none = await doctor(tmp_path, "--tls-cert", str(cert), "--tls-key", "none.key", code=1)
    assert "none.key: No such file" in only_bad(none)
    (tmp_path / "no.pem").write_text("no certificate")
    no = await doctor(tmp_path, "--tls-cert", "no.pem", "--tls-key", str(key), code=1)
    assert "there is no certificate in it" in only_bad(no)


@pytest.mark.parametrize("days", [1, 365, 20_000])
def test_until_when_a_certificate_is_good_is_as_openssl_says(tmp_path: Path, days: int) -> None:
    cert, _ = certificate(tmp_path, "one", days)
    told = subprocess.run(
        ["openssl", "x509", "-noout", "-enddate", "-in", str(cert)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    seconds = ssl.cert_time_to_seconds(told.removeprefix("notAfter="))
    assert good_until(cert.read_text()) == datetime.fromtimestamp(seconds, UTC)


async def test_a_misspelt_variable_is_told(tmp_path: Path) -> None:
    lines = await doctor(tmp_path, code=1, env={"TRIALOGUE_MODLE": "x"})
    assert only_bad(lines).endswith("is TRIALOGUE_MODEL meant?")
