"""The one certificate of all three ports, read anew when its files change."""

from __future__ import annotations

import errno
import ssl
import threading
from dataclasses import dataclass
from pathlib import Path

import grpc
import structlog

from server.config.settings import Settings

log = structlog.get_logger("trialogue.tls")

#: inode, time of change and size of each file
_Seen = tuple[tuple[int, int, int], ...]


class CertificateError(OSError):
    """A certificate and key that cannot be read, or do not belong together."""

    def __init__(self, error: OSError) -> None:
        why = error.strerror or error
        super().__init__(errno.EINVAL, f"this TLS certificate and key cannot be used: {why}")


@dataclass(frozen=True, slots=True)
class _Pair:
    """A certificate chain with its key, as each library takes it."""

    context: ssl.SSLContext
    for_grpc: grpc.ServerCertificateConfiguration


class Certificate:
    """Looked after at every handshake: a new pair is for the connections that come after it.

    A pair that cannot be used is logged once, and the one before it stays. gRPC asks from a
    thread of its own. Raises CertificateError where the first pair cannot be used.
    """

    def __init__(self, cert: Path, key: Path) -> None:
        self._files = cert, key
        self._lock = threading.Lock()
        self._seen = self._look()
        self._pair = self._read()
        #: for asyncio's servers
        self.context = self._pair.context
        self.context.sni_callback = self._hello

    def grpc_credentials(self) -> grpc.ServerCredentials:
        """Return what a gRPC server shows, now and later."""
        shown = self.now()

        def fetch() -> grpc.ServerCertificateConfiguration | None:
            nonlocal shown
            before, shown = shown, self.now()
            return shown.for_grpc if shown is not before else None

        credentials: grpc.ServerCredentials = grpc.dynamic_ssl_server_credentials(
            shown.for_grpc,
            fetch,  # type: ignore[arg-type]  # types-grpcio knows no None: no change
        )
        return credentials

    def now(self) -> _Pair:
        """Return the pair as it is; reads the files where they have changed."""
        with self._lock:
            try:
                if (seen := self._look()) != self._seen:
                    self._seen = seen
                    self._pair = self._read()
                    log.info("the TLS certificate was read anew")
            except CertificateError as error:
                log.error("the TLS certificate was not changed", error=error.strerror)
            return self._pair

    def _hello(self, asked: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        """Show whoever begins a handshake the pair as it is; no name need be asked for."""
        asked.context = self.now().context

    def _look(self) -> _Seen:
        found = []
        for file in self._files:
            try:
                stat = file.stat()
            except OSError:  # it may be about to be replaced
                found.append((0, 0, 0))
            else:
                found.append((stat.st_ino, stat.st_mtime_ns, stat.st_size))
        return tuple(found)

    def _read(self) -> _Pair:
        cert, key = self._files
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            context.load_cert_chain(cert, key, password=_no_password)
            pair = key.read_bytes(), cert.read_bytes()
        except OSError as error:  # SSLError is one
            raise CertificateError(error) from error
        return _Pair(context, grpc.ssl_server_certificate_configuration([pair]))


def certificate_of(settings: Settings) -> Certificate | None:
    """Return the certificate that the settings name. Raises CertificateError."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    return Certificate(settings.tls_cert, settings.tls_key)


def _no_password() -> str:
    """Answer OpenSSL, which would else ask at the terminal for the password of a key."""
    return ""
