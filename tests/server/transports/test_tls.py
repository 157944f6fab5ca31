"""One certificate for three ports: shown by each, changed under all of them, never for a worse."""

from __future__ import annotations

import asyncio
import shutil
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from structlog.testing import capture_logs
from trialogue.v1 import conversation_pb2 as pb
from websockets.asyncio.client import connect

from server.config.settings import load
from server.transports.tls import Certificate, CertificateError, certificate_of
from storage.sqlite.store import SQLiteStore
from tests.server.transports.grpc import grpc_client
from tests.server.transports.rest.http_client import talking
from tests.support.certificates import make_certificate
from tests.support.fakes import Parrot
from tests.support.live import Served, serve

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")


@dataclass(frozen=True)
class Pair:
    """A certificate of this test's own, with its key."""

    cert: Path
    key: Path

    @property
    def der(self) -> bytes:
        return ssl.PEM_cert_to_DER_cert(self.cert.read_text())

    def replace(self, other: Pair) -> None:
        """Put another pair in the place of this one, each file at once, as it should be done."""
        for mine, theirs in ((self.cert, other.cert), (self.key, other.key)):
            fresh = mine.with_suffix(".new")
            shutil.copy(theirs, fresh)
            fresh.replace(mine)


@pytest.fixture
async def pairs(tmp_path: Path) -> list[Pair]:
    """The pair that is configured, and two others."""
    made = [Pair(tmp_path / f"cert{n}.pem", tmp_path / f"key{n}.pem") for n in range(3)]
    for pair in made:
        await make_certificate(pair.cert, pair.key)
    return made


@pytest.fixture
async def served(store: SQLiteStore, pairs: list[Pair]) -> AsyncIterator[Served]:
    async with serve(store, Parrot(), tls_cert=pairs[0].cert, tls_key=pairs[0].key) as server:
        yield server


async def shown(address: str, *, name: str | None = "localhost") -> bytes:
    """Shake hands, and return the certificate that is shown, as DER."""
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    trusting.set_alpn_protocols(["h2"])
    port = int(address.rstrip("/").rpartition(":")[2])
    _, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=trusting, server_hostname=name or "127.0.0.1"
    )
    found: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    return found


async def shown_everywhere(served: Served) -> set[bytes]:
    ports = (served.http, served.grpc, served.websocket)
    return {await shown(port) for port in ports} | {await shown(port, name=None) for port in ports}


async def test_all_ports_show_it_and_speak(served: Served, pairs: list[Pair]) -> None:
    assert await shown_everywhere(served) == {pairs[0].der}
    await speaks(served, pairs[0])


async def speaks(served: Served, pair: Pair) -> None:
    """Make a call over each wire, as a client that trusts this pair alone."""
    trust = ssl.create_default_context(cafile=pair.cert)
    port = served.http.rpartition(":")[2]
    async with talking(f"https://127.0.0.1:{port}") as client:
        assert (await client.get("/healthz", headers={"host": "localhost"})).status_code == 200
    port = served.websocket.rstrip("/").rpartition(":")[2]
    url = f"wss://localhost:{port}/"
    async with connect(url, ssl=trust, host="127.0.0.1", proxy=None) as socket:
        assert "welcome" in str(await socket.recv())
    port = served.grpc.rpartition(":")[2]
    credentials = grpc.ssl_channel_credentials(pair.cert.read_bytes())
    async with grpc.aio.secure_channel(f"localhost:{port}", credentials) as channel:
        await grpc_client.stub(channel).ListConversations(pb.ListConversationsRequest())


async def test_a_new_pair_is_shown_without_a_restart(served: Served, pairs: list[Pair]) -> None:
    port = served.websocket.rstrip("/").rpartition(":")[2]
    before = ssl.create_default_context(cafile=pairs[0].cert)
    old = connect(f"wss://localhost:{port}/", ssl=before, host="127.0.0.1", proxy=None)
    async with old as socket:
        assert await socket.recv()
        for other in pairs[1:]:
            pairs[0].replace(other)
            assert await shown_everywhere(served) == {other.der}
            await speaks(served, other)
        await socket.send('{"type": "ping"}')
        assert "pong" in str(await socket.recv())


@pytest.mark.parametrize("harm", ["half", "none", "key", "gone"])
async def test_a_broken_pair_is_logged_and_the_old_one_stays(
    served: Served, pairs: list[Pair], harm: str
) -> None:
    configured, other, _ = pairs
    der = configured.der
    match harm:
        case "half":
            configured.cert.write_bytes(configured.cert.read_bytes()[:200])
        case "none":
            configured.key.write_text("no key")
        case "key":
            shutil.copy(other.cert, configured.cert)
        case "gone":
            configured.cert.unlink()
    with capture_logs() as logs:
        assert await shown_everywhere(served) == {der}
    assert [log["event"] for log in logs if log["log_level"] == "error"] == [
        "the TLS certificate was not changed"
    ]
    configured.replace(other)
    assert await shown_everywhere(served) == {other.der}


def test_the_first_pair_must_be_good(pairs: list[Pair]) -> None:
    with pytest.raises(CertificateError, match="TLS certificate and key cannot be used"):
        Certificate(pairs[0].cert, pairs[1].key)


async def test_a_key_with_a_password_is_refused_and_nobody_is_asked(
    pairs: list[Pair], tmp_path: Path
) -> None:
    locked = tmp_path / "locked.pem"
    words = ("ec", "-in", str(pairs[0].key), "-aes256", "-passout", "pass:x", "-out", str(locked))
    quiet = asyncio.subprocess.DEVNULL
    made = await asyncio.create_subprocess_exec("openssl", *words, stderr=quiet)
    assert await made.wait() == 0
    with pytest.raises(CertificateError):
        Certificate(pairs[0].cert, locked)


def test_without_the_settings_there_is_none() -> None:
    assert certificate_of(load({})) is None
