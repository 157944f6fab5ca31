"""Why an upstream cannot be reached, as the log has it: each reason over a real socket."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from server.upstream.port import UpstreamError
from server.upstream.remote.client import UpstreamClient
from server.upstream.remote.probe import probe
from tests.server.upstream.remote.relay_helpers import call, read
from tests.support.certificates import make_certificate
from tests.support.upstream_script import Behaviour, document, drip, fail, flood, hang
from tests.support.upstream_server import ScriptedUpstream

KEY = "sk-secret"


async def reason_of(base_url: str) -> str:
    """Call an upstream that cannot be reached; return why that is, which callers are not told."""
    client = UpstreamClient(api_key=KEY, base_url=base_url, name="one")
    with capture_logs() as logged:
        try:
            with pytest.raises(UpstreamError) as failure:
                async with client.call(call()) as reply:
                    await read(reply)
        finally:
            await client.close()
    (line,) = logged
    assert (line["event"], line["upstream"]) == ("upstream unreachable", "one")
    assert str(line["reason"]) not in str(failure.value)
    assert KEY not in str(line)
    return str(line["reason"])


async def gone() -> str:
    """Return the address of an upstream that is not there any more."""
    async with ScriptedUpstream() as server:
        return server.base_url


async def test_nothing_listens_there() -> None:
    assert "refused" in await reason_of(await gone())


async def test_the_name_is_not_found() -> None:
    assert "name was not found" in await reason_of("http://nowhere.invalid/v1")


async def test_the_certificate_is_not_trusted(tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    await make_certificate(cert, key)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(cert, key)
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=tls)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert "certificate is not trusted" in await reason_of(f"https://localhost:{port}/v1")


async def test_no_tls_is_spoken_there() -> None:
    async def answer_plainly(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer_plainly, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert "TLS failed" in await reason_of(f"https://127.0.0.1:{port}/v1")


async def test_who_probes_is_told() -> None:
    with pytest.raises(UpstreamError, match="nothing listens there"):
        await probe(KEY, await gone())


@pytest.mark.parametrize(
    ("behaviour", "told"),
    [
        (fail(307, "there", headers={"location": "http://127.0.0.1:1/v1/models"}), "leads else"),
        (flood(b" " * 100_000, content_type="application/json"), "longer than"),
        (flood(b" " * 100_000, status=500), "longer than"),
        (drip(b" " * 100), "did not answer in time"),
        (hang(), "did not answer in time"),
    ],
    ids=["a redirect", "a flood", "a refusal without end", "a drip", "silence"],
)
async def test_who_probes_is_not_held_up(behaviour: Behaviour, told: str) -> None:
    async with ScriptedUpstream() as server:
        server.listing = behaviour
        seconds = 0.5 if "time" in told else 10
        with pytest.raises(UpstreamError, match=told):
            await probe(KEY, server.base_url, seconds)


@pytest.mark.parametrize(
    ("said", "models"),
    [
        (b"[]", None),
        (b"null", None),
        (b'{"data": 5}', None),
        (b"[" * 100_000, None),
        (b'{"data": [1, {"id": 2}, {"id": "m"}, {"id": "\\u001b[2J"}]}', ("m",)),
    ],
)
async def test_what_is_no_list_of_models_lists_none(
    said: bytes, models: tuple[str, ...] | None
) -> None:
    async with ScriptedUpstream() as server:
        server.listing = document(said)
        assert (await probe(KEY, server.base_url)).models == models


async def test_a_proxy_that_is_none_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "nonsense")
    monkeypatch.setenv("no_proxy", "")
    with pytest.raises(UpstreamError, match="the proxy"):
        await probe(KEY, "http://elsewhere.invalid/v1")
