"""Certificates for servers of tests."""

from __future__ import annotations

import asyncio
from pathlib import Path

_KIND = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


async def make_certificate(cert: Path, key: Path, name: str = "localhost") -> None:
    """Make a self-signed certificate for this name."""
    named = ("-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}")
    words = (*_KIND, *named, "-days", "2", "-keyout", str(key), "-out", str(cert))
    quiet = asyncio.subprocess.DEVNULL
    made = await asyncio.create_subprocess_exec("openssl", *words, stderr=quiet)
    assert await made.wait() == 0
