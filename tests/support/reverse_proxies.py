"""Reverse proxies in front of a real server, as docs/deploy configures them: nginx and Caddy."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import socket
import subprocess
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.certificates import make_certificate
from tests.support.live import ROOT, Fork, Process
from tests.support.postgres import free_port

DEPLOY = ROOT / "docs" / "deploy"
NAME = "chat.example"
#: an API key of the server
KEY = "sk-ada"


@dataclass(frozen=True)
class Front:
    """A proxy that can stand in front of a server, and what the server is set to for it."""

    program: str
    #: in docs/deploy
    file: str
    #: where the page is
    prefix: str = ""
    root_path: str = ""
    #: what is written otherwise than in the file
    otherwise: tuple[str, str] = ("", "")

    @property
    def env(self) -> dict[str, str]:
        return {"TRIALOGUE_ALLOWED_HOSTS": NAME, "TRIALOGUE_ROOT_PATH": self.root_path}

    def command(self, server: Process, port: int, folder: Path) -> tuple[str, ...]:
        """Write the configuration for a server, but for places as told; return what to run."""
        told = (DEPLOY / self.file).read_text()
        assert self.otherwise[0] in told
        http, grpc_port = (one.rpartition(":")[2] for one in (server.http, server.grpc))
        told = told.replace(*self.otherwise) if self.otherwise[0] else told
        told = re.sub(r":8000\b", f":{http}", re.sub(r":9000\b", f":{grpc_port}", told))
        return _WRITES[self.program](told, port, folder)


def _nginx(told: str, port: int, folder: Path) -> tuple[str, ...]:
    told = told.replace("listen 443 ", f"listen 127.0.0.1:{port} ")
    told = re.sub(r"/etc/ssl/chat.example/fullchain.pem", str(folder / "cert.pem"), told)
    told = re.sub(r"/etc/ssl/chat.example/privkey.pem", str(folder / "key.pem"), told)
    (folder / "chat.conf").write_text(told)
    return _nginx_of(
        f"worker_processes 1;\nevents {{}}\nhttp {{\ninclude {folder}/chat.conf; }}\n", folder
    )


def _nginx_of(told: str, folder: Path) -> tuple[str, ...]:
    """Write a whole configuration, with all that it writes itself in our folder."""
    places = "".join(
        f"{kind}_temp_path {folder}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    assert "http {\n" in told
    told = told.replace("http {\n", f"http {{\naccess_log off;\n{places}")
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/pid; error_log {folder}/errors;\n{told}"
    )
    words = ("nginx", "-p", str(folder), "-c", str(folder / "nginx.conf"))
    tested = subprocess.run((*words, "-t", "-q"), capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stderr
    return words


def _caddy(told: str, port: int, folder: Path) -> tuple[str, ...]:
    """Write Caddy's, with a port and a certificate of ours in the place of 443 and its own."""
    certificate = f"tls {folder}/cert.pem {folder}/key.pem"
    told = told.replace("{$CHAT_SERVER:127.0.0.1}", "127.0.0.1")
    site = f"{NAME}:{port} {{\n\tbind 127.0.0.1\n\t{certificate}\n"
    told = told.replace("{$CHAT_NAME:chat.example} {\n", site)
    options = "{\n\tadmin off\n\tauto_https disable_redirects\n}\n"
    (folder / "Caddyfile").write_text(options + told)
    return "caddy", "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")


_WRITES: Mapping[str, Callable[[str, int, Path], tuple[str, ...]]] = {
    "nginx": _nginx,
    "caddy": _caddy,
}
_TAKES_OFF = ("http://127.0.0.1:8000;", "http://127.0.0.1:8000/;")
_FRONTS = {
    "nginx": Front("nginx", "nginx.conf"),
    "caddy": Front("caddy", "Caddyfile"),
    "nginx-prefix": Front("nginx", "nginx.prefix.conf", "/chat", "/chat"),
    "nginx-prefix-taken-off": Front("nginx", "nginx.prefix.conf", "/chat", otherwise=_TAKES_OFF),
    "caddy-prefix": Front("caddy", "Caddyfile.prefix", "/chat"),
}


def _each(fronts: Mapping[str, Front]) -> list[Any]:
    """Return parameters of tests that want each; what is not installed is skipped."""
    missing = {name: shutil.which(front.program) is None for name, front in fronts.items()}
    return [
        pytest.param(
            front, id=name, marks=pytest.mark.skipif(missing[name], reason=f"needs {front.program}")
        )
        for name, front in fronts.items()
    ]


FRONTS = _each(_FRONTS)
PREFIXED = _each({name: front for name, front in _FRONTS.items() if front.prefix})


@dataclass(frozen=True)
class Fronted:
    """A server, and where it is by its proxy."""

    server: Process
    port: int
    certificate: Path
    prefix: str

    @property
    def address(self) -> str:
        return f"https://{NAME}:{self.port}{self.prefix}"


@asynccontextmanager
async def fronted(front: Front, folder: Path) -> AsyncIterator[Fronted]:
    """Begin a server and a proxy in front of it, with a certificate of its name."""
    place = folder / "proxy"
    place.mkdir()
    cert, port = place / "cert.pem", free_port()
    await make_certificate(cert, place / "key.pem", NAME)
    async with (
        Fork(folder, env={**front.env, "TRIALOGUE_API_KEYS": f"ada:{KEY}"}) as server,
        _running(front.command(server, port, place), place, port),
    ):
        yield Fronted(server, port, cert, front.prefix)


@asynccontextmanager
async def before_nodes(nodes: Sequence[Process], folder: Path) -> AsyncIterator[tuple[str, str]]:
    """Run nginx before three nodes as docs/deploy has it; yield where HTTP is, and gRPC.

    An nginx before 1.25 has no port for both without TLS: there gRPC gets one of its own.
    """
    told = (DEPLOY / "cluster.nginx.conf").read_text()
    for number, node in enumerate(nodes, start=1):
        for port, at in ((8000, node.http), (9000, node.grpc)):
            assert f"node{number}:{port} " in told
            address = f"127.0.0.1:{at.rpartition(':')[2]}"
            told = told.replace(f"node{number}:{port} ", f"{address} ")
    http, grpc = free_port(), free_port()
    both = re.compile(r"listen 8000;\n\s+http2 on;")
    assert both.search(told)
    told = both.sub(f"listen 127.0.0.1:{http}; listen 127.0.0.1:{grpc} http2;", told)
    place = folder / "nginx"
    place.mkdir()
    async with _running(_nginx_of(told, place), place, http):
        yield f"127.0.0.1:{http}", f"127.0.0.1:{grpc}"


@asynccontextmanager
async def _running(words: tuple[str, ...], folder: Path, port: int) -> AsyncIterator[None]:
    env = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    proxy = await asyncio.create_subprocess_exec(*words, env=env, stdout=DEVNULL, stderr=PIPE)
    try:
        while True:
            assert proxy.returncode is None, (await proxy.communicate())[1].decode()
            with socket.socket() as tried:
                if not tried.connect_ex(("127.0.0.1", port)):
                    break
            await asyncio.sleep(0.05)
        yield
    finally:
        if proxy.returncode is None:
            proxy.terminate()
        await proxy.communicate()
