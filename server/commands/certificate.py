"""Until when a certificate is good, read from its file (X.509: RFC 5280, DER: X.690)."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime

_FIRST = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_VERSION, _UTC_TIME = 0xA0, 0x17


def good_until(pem: str) -> datetime:
    """Return the end of the first certificate of a file. Raises ValueError where there is none."""
    found = _FIRST.search(pem)
    if found is None:
        raise ValueError("there is no certificate in it")
    try:
        der = ssl.PEM_cert_to_DER_cert(found[0])
        ((_, certificate),) = _values(der)
        fields = list(_values(next(_values(certificate))[1]))
        if fields[0][0] == _VERSION:
            fields = fields[1:]
        _serial, _algorithm, _issuer, (_, validity) = fields[:4]
        _begin, (tag, end) = _values(validity)
    except (IndexError, StopIteration) as error:
        raise ValueError("the certificate cannot be read") from error
    # Two digits of a year stand for 1950 to 2049, and so does strptime's %y but for 1950 to 1968.
    form = "%y%m%d%H%M%SZ" if tag == _UTC_TIME else "%Y%m%d%H%M%SZ"
    return datetime.strptime(end.decode(), form).replace(tzinfo=UTC)


def _values(der: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield tag and content of the values that stand one behind another."""
    at = 0
    while at < len(der):
        tag, size = der[at], der[at + 1]
        at += 2
        if size & 0x80:
            width = size & 0x7F
            size = int.from_bytes(der[at : at + width], "big")
            at += width
        yield tag, der[at : at + size]
        at += size
