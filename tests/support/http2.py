"""HTTP/2 frames written by hand (RFC 9113), for gRPC peers that no library would play."""

from __future__ import annotations

import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS, WINDOW_UPDATE = 0, 1, 4, 8
END_STREAM, END_HEADERS = 1, 4
_INITIAL_WINDOW_SIZE = 4
_LARGEST_WINDOW = (1 << 31) - 1


def frame(kind: int, payload: bytes = b"", *, flags: int = 0, stream: int = 0) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def greeting() -> bytes:
    """Begin a connection whose client takes whatever comes: only TCP holds the server back."""
    settings = struct.pack(">HI", _INITIAL_WINDOW_SIZE, _LARGEST_WINDOW)
    room = struct.pack(">I", _LARGEST_WINDOW - 65_535)
    return PREFACE + frame(SETTINGS, settings) + frame(WINDOW_UPDATE, room)


def header_block(*headers: tuple[bytes, bytes]) -> bytes:
    """Write headers as literals that no table keeps (RFC 7541, 6.2.2)."""
    return b"".join(b"\x00" + _text(name) + _text(value) for name, value in headers)


def call(path: bytes, message: bytes, *, stream: int = 1) -> bytes:
    """Write a whole gRPC request: its headers, its one message, its end."""
    block = header_block(
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path),
        (b":authority", b"localhost"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
    )
    return frame(HEADERS, block, flags=END_HEADERS, stream=stream) + frame(
        DATA, enveloped(message), flags=END_STREAM, stream=stream
    )


def enveloped(message: bytes, *, compressed: bool = False) -> bytes:
    """Put gRPC's prefix before a message: whether it is compressed, and how long it is."""
    return struct.pack(">BI", compressed, len(message)) + message


def _text(value: bytes) -> bytes:
    assert len(value) < 127  # a longer one has its length in several bytes
    return bytes([len(value)]) + value
