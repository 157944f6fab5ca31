"""Tests of prompt costs: OpenAI's published counts, message parts, and estimates of images."""

from __future__ import annotations

import base64
import struct
from typing import Any

import pytest

from server.tokens.counting import (
    ASSUMED_SIZE,
    ChatShape,
    content_tokens,
    image_size,
    image_tokens,
    message_cost,
    shape,
)
from server.tokens.encoding import encoding
from server.tokens.models import TILES_4O, model
from storage.model import PromptMessage, Role
from tests.support.prompt_cost import prompt_cost

O200K = encoding("o200k_base")

#: The example of OpenAI's cookbook, "How to count tokens with tiktoken".
COOKBOOK = (
    PromptMessage(
        Role.SYSTEM,
        "You are a helpful, pattern-following assistant that translates corporate jargon into "
        "plain English.",
    ),
    PromptMessage(
        Role.SYSTEM, "New synergies will help drive top-line growth.", name="example_user"
    ),
    PromptMessage(
        Role.SYSTEM,
        "Things working well together will increase revenue.",
        name="example_assistant",
    ),
    PromptMessage(
        Role.SYSTEM,
        "Let's circle back when we have more bandwidth to touch base on opportunities for "
        "increased leverage.",
        name="example_user",
    ),
    PromptMessage(
        Role.SYSTEM,
        "Let's talk later when we're less busy about how to do better.",
        name="example_assistant",
    ),
    PromptMessage(
        Role.USER,
        "This late pivot means we don't have time to boil the ocean for the client deliverable.",
    ),
)


def data_url(content: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def png(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII5x", 13, b"IHDR", width, height)


def gif(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HH3x", width, height)


def jpeg(width: int, height: int, start_of_frame: int = 0xC0, before: int = 0) -> bytes:
    """Write a JPEG's head with `before` bytes of other segments ahead of the frame header."""
    segments = b"\xff\xe0" + struct.pack(">H5s9x", 16, b"JFIF")
    while before > 0:
        length = min(before, 65_533)
        segments += b"\xff\xe1" + struct.pack(">H", length + 2) + b"\xc0" * length
        before -= length
    frame = struct.pack(">HBHHB", 17, 8, height, width, 3) + bytes(9)
    return b"\xff\xd8" + segments + b"\xff\xc4\x00\x03\x00\xff" + bytes([start_of_frame]) + frame


def webp(kind: bytes, body: bytes) -> bytes:
    chunk = kind + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", len(chunk) + 4) + b"WEBP" + chunk


def image(url: str, **more: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, **more}}


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("gpt-3.5-turbo-0301", 127),
        ("gpt-3.5-turbo-0613", 129),
        ("gpt-3.5-turbo", 129),
        ("gpt-4-0314", 129),
        ("gpt-4-0613", 129),
        ("gpt-4", 129),
        ("gpt-4o", 124),
        ("gpt-4o-mini", 124),
    ],
)
def test_the_cookbooks_conversation_costs_what_openai_counts(name: str, published: int) -> None:
    assert prompt_cost(shape(name), encoding(model(name).encoding), COOKBOOK) == published


def test_a_model_is_found_behind_its_provider() -> None:
    assert shape("openai/gpt-3.5-turbo-0301").per_message == 4
    assert shape("azure/gpt-35-turbo-0301").per_name == -1
    assert shape("openai/gpt-4o") == ChatShape()


def test_an_empty_prompt_costs_its_priming() -> None:
    assert prompt_cost(ChatShape(), O200K, ()) == 3


def test_a_known_content_is_not_counted_again() -> None:
    counted = message_cost(ChatShape(), O200K, "user", "Hello there", name="ann")
    known = O200K.count("Hello there")
    assert message_cost(ChatShape(), O200K, "user", "", "ann", tokens=known) == counted
    assert message_cost(ChatShape(), O200K, Role.USER, "x" * 999, tokens=0) == 4


def test_the_prompt_is_the_sum_of_its_messages() -> None:
    alone = [message_cost(ChatShape(), O200K, m.role, m.content, m.name) for m in COOKBOOK]
    assert prompt_cost(ChatShape(), O200K, COOKBOOK) == sum(alone) + 3


def test_special_tokens_in_a_message_are_text() -> None:
    assert message_cost(ChatShape(), O200K, "user", "<|endoftext|>") == 4 + 7


def test_parts_cost_their_texts() -> None:
    parts = [{"type": "text", "text": "Hello there"}, {"type": "refusal", "refusal": "No."}]
    assert content_tokens(O200K, parts) == O200K.count("Hello there") + O200K.count("No.")
    assert content_tokens(O200K, []) == 0


def test_every_other_string_of_a_part_is_counted() -> None:
    part = {"type": "file", "file": {"type": "x", "filename": "a.txt", "pages": [1, "one", None]}}
    assert content_tokens(O200K, [part]) == O200K.count("a.txt") + O200K.count("one")


def test_deeply_nested_parts_are_no_trouble() -> None:
    part: dict[str, Any] = {"text": "deep"}
    for _ in range(5_000):
        part = {"in": [part]}
    assert content_tokens(O200K, [part]) == O200K.count("deep")


def test_images_stand_beside_text() -> None:
    parts = [{"type": "text", "text": "What is this?"}, image(data_url(png(512, 512)))]
    assert content_tokens(O200K, parts) == O200K.count("What is this?") + 85 + 170
    patches = shape("gpt-4.1-mini")
    expected = 4 + O200K.count("What is this?") + 415
    assert message_cost(patches, O200K, "user", parts) == expected


@pytest.mark.parametrize(
    "part",
    [
        image(data_url(png(4_096, 4_096)), detail="low"),
        {"type": "input_image", "image_url": data_url(png(4_096, 4_096)), "detail": "low"},
    ],
)
def test_low_detail_costs_the_base_alone(part: dict[str, Any]) -> None:
    assert content_tokens(O200K, [part]) == 85


@pytest.mark.parametrize("url", ["https://example.com/cat.png", "data:image/png;base64,AAAA", ""])
def test_an_image_of_unknown_size_costs_what_a_common_one_does(url: str) -> None:
    assert content_tokens(O200K, [image(url)]) == image_tokens(TILES_4O, ASSUMED_SIZE) == 765


@pytest.mark.parametrize("wrong", [None, 7, {"url": None}, {"detail": {}}, []])
def test_a_misshapen_image_costs_nothing(wrong: object) -> None:
    assert content_tokens(O200K, [{"type": "image_url", "image_url": wrong}]) == 0


@pytest.mark.parametrize(
    ("name", "size", "detail", "tokens"),
    [
        # the examples of OpenAI's guide
        ("gpt-4o", (1_024, 1_024), "high", 765),
        ("gpt-4o", (2_048, 4_096), "high", 1_105),
        ("gpt-4o", (4_096, 8_192), "low", 85),
        ("gpt-4.1-mini", (1_024, 1_024), "high", 1_659),
        ("gpt-4.1-mini", (1_800, 2_400), "high", 2_353),
        # each model's own prices
        ("gpt-4o", (150, 150), None, 255),
        ("gpt-4o", (1, 100_000), None, 85 + 4 * 170),
        ("gpt-4.1", (1_024, 1_024), "auto", 765),
        ("gpt-4o-mini", (1_024, 1_024), "high", 2_833 + 4 * 5_667),
        ("gpt-4o-mini", (1_024, 1_024), "low", 2_833),
        ("gpt-5", (1_024, 1_024), None, 70 + 4 * 140),
        ("o3", (1_024, 1_024), None, 75 + 4 * 150),
        ("o4-mini", (1_024, 1_024), None, 1_762),
        ("gpt-4.1-nano", (32, 32), None, 3),
        ("gpt-4.1-nano", (4_000, 4_000), "low", 630),
        ("gpt-5.4", (1_024, 1_024), "auto", 1_229),
        # what is shrunk, and how far, follows the detail
        ("gpt-5.4", (2_400, 2_400), "auto", 3_000),
        ("gpt-5.4", (2_400, 2_400), "original", 6_750),
        ("gpt-5.5", (2_400, 2_400), "auto", 6_750),
        ("gpt-5.6-sol", (4_800, 4_800), None, 27_000),
        ("gpt-5.6-sol", (4_800, 4_800), "high", 3_000),
        ("gpt-4.1-mini", (1, 100_000), None, 104),
        ("gpt-5.6-sol", (40_000, 40), None, 3_000),
    ],
)
def test_estimates_of_images(
    name: str, size: tuple[int, int], detail: str | None, tokens: int
) -> None:
    assert image_tokens(shape(name).images, size, detail) == tokens


@pytest.mark.parametrize("size", [(1, 1), (1, 4_294_967_295), (4_294_967_295, 4_294_967_295)])
@pytest.mark.parametrize("name", ["gpt-4o", "gpt-4.1-mini", "gpt-5.4", "gpt-5.6-sol"])
@pytest.mark.parametrize("detail", ["low", "high", "original", "auto", None])
def test_absurd_sizes_stay_within_bounds(
    name: str, size: tuple[int, int], detail: str | None
) -> None:
    assert 0 < image_tokens(shape(name).images, size, detail) <= 36_000


@pytest.mark.parametrize(
    "content",
    [
        png(640, 480),
        gif(640, 480),
        jpeg(640, 480),
        jpeg(640, 480, start_of_frame=0xC2),
        jpeg(640, 480, before=200_000),
        webp(b"VP8 ", b"\x10\x02\x00\x9d\x01\x2a" + struct.pack("<HH", 640, 480)),
        webp(b"VP8L", b"\x2f" + struct.pack("<I", 639 | 479 << 14)),
        webp(b"VP8X", bytes(4) + (639).to_bytes(3, "little") + (479).to_bytes(3, "little")),
    ],
    ids=["png", "gif", "jpeg", "progressive", "jpeg with much before", "VP8", "VP8L", "VP8X"],
)
def test_sizes_are_read_from_headers(content: bytes) -> None:
    assert image_size(data_url(content)) == (640, 480)
    assert image_size(data_url(content).rstrip("=")) == (640, 480)
    assert image_size(data_url(content + bytes(1_000_000))) == (640, 480)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "data:",
        "data:image/png,plain",
        "https://example.com/a,b",
        "data:image/png;base64,",
        "data:image/png;base64,A",
        "data:image/png;base64,ünï",
        data_url(b"no image at all"),
        data_url(png(640, 480)[:18]),
        data_url(png(0, 480)),
        data_url(jpeg(640, 480)[:30]),
        data_url(jpeg(640, 480, before=400_000)),
        data_url(b"\xff\xd8" + b"\xff\xe1\x00\x00" * 1_000),
        data_url(b"\xff\xd8" + bytes(100)),
        data_url(webp(b"ALPH", bytes(20))),
    ],
)
def test_an_unreadable_size_is_none(url: str) -> None:
    assert image_size(url) is None
