"""What the messages of a prompt cost in tokens, in OpenAI's chat shape.

The rules are those of OpenAI's cookbook and guides: exact for plain text up to gpt-4o, the best
known estimate for later models and for images. Long texts are better counted in a thread.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from server.tokens.encoding import Encoding
from server.tokens.models import TILES_4O, Fit, ImageCost, Patches, Tiles, base_name, model
from storage.model import Content

#: Taken for an image whose size cannot be read, such as one at a remote address.
ASSUMED_SIZE = (1_024, 1_024)

_PATCH = 32
_LOW_PATCHES = 256
#: Base64 characters of an image that are looked at; a multiple of four.
_HEADER_CHARS = 349_528


@dataclass(frozen=True, slots=True)
class ChatShape:
    """Tokens that a model's chat format adds to each message, to a name, and to every prompt."""

    per_message: int = 3
    per_name: int = 1
    priming: int = 3
    images: ImageCost = TILES_4O


def shape(model_name: str) -> ChatShape:
    """Return the chat format of a model."""
    images = model(model_name).images or TILES_4O
    if base_name(model_name) == "gpt-3.5-turbo-0301":
        return ChatShape(per_message=4, per_name=-1, images=images)
    return ChatShape(images=images)


def message_cost(
    shape: ChatShape,
    encoding: Encoding,
    role: str,
    content: Content,
    name: str | None = None,
    tokens: int | None = None,
) -> int:
    """Count the tokens of one message; `tokens` is its content's count where that is known."""
    if tokens is None:
        tokens = content_tokens(encoding, content, shape.images)
    cost = shape.per_message + encoding.count(role) + tokens
    return cost if name is None else cost + encoding.count(name) + shape.per_name


def content_tokens(encoding: Encoding, content: Content, images: ImageCost = TILES_4O) -> int:
    """Count the tokens of a message's content alone; images are estimated."""
    if isinstance(content, str):
        return encoding.count(content)
    return sum(_part_tokens(encoding, part, images) for part in content)


def _part_tokens(encoding: Encoding, part: Mapping[str, Any], images: ImageCost) -> int:
    match part:
        case {"image_url": {"url": str(url)} as image}:
            return image_tokens(images, image_size(url), image.get("detail"))
        case {"image_url": str(url)}:
            return image_tokens(images, image_size(url), part.get("detail"))
        case _:
            return sum(encoding.count(text) for text in _strings(part))


def _strings(part: Mapping[str, Any]) -> Iterator[str]:
    waiting: list[Any] = [part]
    while waiting:
        match waiting.pop():
            case str(text):
                yield text
            case Mapping() as fields:
                waiting += [value for key, value in fields.items() if key != "type"]
            case list() | tuple() as items:
                waiting += items


def image_tokens(rule: ImageCost, size: tuple[int, int] | None, detail: str | None = None) -> int:
    """Estimate the tokens of an image of this width and height; None where they are not known."""
    width, height = size or ASSUMED_SIZE
    match rule, detail:
        case Tiles(base=base), "low":
            return base
        case Tiles(base=base, tile=tile), _:
            return base + tile * _tiles(width, height)
        case Patches(multiplier=multiplier), "low":
            return math.ceil(_LOW_PATCHES * multiplier)
        case Patches(multiplier=multiplier, high=fit), "high":
            return math.ceil(_patches(width, height, fit) * multiplier)
        case Patches(multiplier=multiplier, original=fit), "original":
            return math.ceil(_patches(width, height, fit) * multiplier)
        case Patches(multiplier=multiplier, auto=fit), _:
            return math.ceil(_patches(width, height, fit) * multiplier)


def _tiles(width: int, height: int) -> int:
    width, height = _shrunk(width, height, max(width, height), 2_048)
    width, height = _shrunk(width, height, min(width, height), 768)
    return math.ceil(width / 512) * math.ceil(height / 512)


def _patches(width: int, height: int, fit: Fit) -> int:
    width, height = _shrunk(width, height, max(width, height), fit.edge)
    if _grid(width, height) <= fit.patches:
        return _grid(width, height)
    scale = math.sqrt(fit.patches * _PATCH**2 / (width * height))
    across, down = width * scale / _PATCH, height * scale / _PATCH
    scale *= min(max(1, int(across)) / across, max(1, int(down)) / down)
    return min(fit.patches, _grid(round(width * scale), round(height * scale)))


def _grid(width: int, height: int) -> int:
    return math.ceil(width / _PATCH) * math.ceil(height / _PATCH)


def _shrunk(width: int, height: int, side: int, limit: int) -> tuple[int, int]:
    if side <= limit:
        return width, height
    return max(1, width * limit // side), max(1, height * limit // side)


def image_size(url: str) -> tuple[int, int] | None:
    """Read width and height from the header of a data: URL's image; nothing is ever fetched."""
    scheme, _, body = url.partition(",")
    if not scheme.startswith("data:") or not scheme.endswith(";base64"):
        return None
    try:
        # senders that leave the padding out are common, too much of it is ignored
        width, height = _header_size(base64.b64decode(body[:_HEADER_CHARS] + "=="))
    except (binascii.Error, ValueError):
        return None
    return (width, height) if width and height else None


def _header_size(header: bytes) -> tuple[int, int]:
    """Return width and height, or zeros for what is no PNG, GIF, WebP or JPEG."""
    if header.startswith(b"\x89PNG\r\n\x1a\n"):
        return int.from_bytes(header[16:20]), int.from_bytes(header[20:24])
    if header.startswith(b"GIF8"):
        return int.from_bytes(header[6:8], "little"), int.from_bytes(header[8:10], "little")
    if header.startswith(b"RIFF") and header[8:12] == b"WEBP":
        return _webp_size(header)
    if header.startswith(b"\xff\xd8"):
        return _jpeg_size(header)
    return 0, 0


def _webp_size(header: bytes) -> tuple[int, int]:
    def number(start: int, length: int) -> int:
        return int.from_bytes(header[start : start + length], "little")

    match header[12:16]:
        case b"VP8X":
            return number(24, 3) + 1, number(27, 3) + 1
        case b"VP8L":
            bits = number(21, 4)
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8 ":
            return number(26, 2) & 0x3FFF, number(28, 2) & 0x3FFF
        case _:
            return 0, 0


def _jpeg_size(header: bytes) -> tuple[int, int]:
    """Walk the segments up to the frame header, which has the size."""
    at = 2
    while at + 9 <= len(header) and header[at] == 0xFF:
        marker = header[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}:
            return int.from_bytes(header[at + 7 : at + 9]), int.from_bytes(header[at + 5 : at + 7])
        at += 2 + max(2, int.from_bytes(header[at + 2 : at + 4]))
    return 0, 0
