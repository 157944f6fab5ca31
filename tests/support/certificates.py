"""Certificates for servers of tests."""

from __future__ import annotations

import asyncio
from pathlib import Path

_KIND = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
_NAMES = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost")


async def make_certificate(cert: Path, key: Path) -> None:
    """Make a self-signed certificate for localhost."""
    words = (*_KIND, *_NAMES, "-days", "2", "-keyout", str(key), "-out", str(cert))
    quiet = asyncio.subprocess.DEVNULL
    made = await asyncio.create_subprocess_exec("openssl", *words, stderr=quiet)
    assert await made.wait() == 0
