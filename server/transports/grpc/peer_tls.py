"""How nodes know each other by TLS: each trusts the certificate that all show, and nothing else."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import grpc

#: What is known of a peer beforehand: what is trusted, and the name that it answers to.
Known = tuple[grpc.ChannelCredentials, str]


def known_by(cert: Path, key: Path) -> Known:
    """Return what makes a channel to a server that shows this certificate, wherever it is reached.

    Raises OSError, which an SSLError is.
    """
    names = _names(cert, key)
    name = names[0] if names else "localhost"
    credentials = grpc.ssl_channel_credentials(root_certificates=cert.read_bytes())
    return credentials, name.replace("*", "node", 1)


def _names(cert: Path, key: Path) -> list[str]:
    """Return the names of a certificate, as one reads them to whom it is shown."""
    server, client = (
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER),
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
    )
    server.load_cert_chain(cert, key)
    client.load_verify_locations(cert)
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client.check_hostname = False
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    shown, seen = server.wrap_bio(there, back, server_side=True), client.wrap_bio(back, there)
    for one in (seen, shown, seen):
        try:
            one.do_handshake()
        except ssl.SSLWantReadError:
            continue
    told: Any = (seen.getpeercert() or {}).get("subjectAltName", ())
    return [name for kind, name in told if kind in ("DNS", "IP Address")]
