"""Headers of models: what they say, and what they cannot make us do."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.upstream.llama.files.gguf import NotGGUFError, read_header
from tests.support.tiny_gguf import HEADS, LAYERS, WIDTH, tiny_gguf


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", window=4096)


def test_a_header_tells_what_is_shown_of_a_model(model: Path) -> None:
    header = read_header(model)
    assert (header.architecture, header.name) == ("llama", "tiny-nonsense")
    assert (header.window, header.parameters) == (4096, 115_520)
    assert header.bytes_per_token == LAYERS * HEADS * 2 * (WIDTH // HEADS) * 2
    assert (header.template, header.embeds, header.files) == (True, False, 1)


def test_a_file_that_is_cut_is_told(model: Path, tmp_path: Path) -> None:
    data = model.read_bytes()
    for size in (0, 3, 20, 1000, 8000, 100_000):
        (tmp_path / "cut").write_bytes(data[:size])
        with pytest.raises(NotGGUFError):
            read_header(tmp_path / "cut")


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


@pytest.mark.parametrize(
    "body",
    [
        struct.pack("<IQQ", 1, 0, 0),
        struct.pack("<IQQ", 3, 1 << 63, 0),
        struct.pack("<IQQ", 3, 0, 1 << 63),
        struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 1 << 62),
        struct.pack("<IQQ", 3, 0, 1) + text(b"k") + struct.pack("<I", 99),
        struct.pack("<IQQ", 3, 0, 1) + text(b"k") + struct.pack("<IIQ", 9, 8, 1 << 40),
        struct.pack("<IQQ", 3, 0, 1) + text(b"k") + struct.pack("<IIQ", 9, 4, 1 << 40),
        struct.pack("<IQQ", 3, 0, 1) + text(b"k") + struct.pack("<IIQ", 9, 9, 2),
        struct.pack("<IQQ", 3, 0, 1) + text(b"k") + struct.pack("<IQ", 8, 1 << 50),
        struct.pack("<IQQ", 3, 0, 0) + b"x" * 100,
    ],
)
def test_a_header_that_lies_is_refused_at_once(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "lie").write_bytes(b"GGUF" + body)
    with pytest.raises(NotGGUFError):
        read_header(tmp_path / "lie")


def test_what_is_shown_of_a_file_moves_no_cursor(model: Path, tmp_path: Path) -> None:
    data = model.read_bytes().replace(text(b"tiny-nonsense"), text(b"\x1b[2J-nonsense"))
    (tmp_path / "named").write_bytes(data)
    assert read_header(tmp_path / "named").name is None
    (tmp_path / "built").write_bytes(model.read_bytes().replace(text(b"llama"), text(b"\x1b[2Jx")))
    with pytest.raises(NotGGUFError):
        read_header(tmp_path / "built")


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(changes=st.lists(st.tuples(st.integers(0, 9_000), st.integers(0, 255)), max_size=8))
def test_whatever_a_file_holds_it_is_read_or_refused(
    model: Path, tmp_path: Path, changes: list[tuple[int, int]]
) -> None:
    data = bytearray(model.read_bytes())
    for place, value in changes:
        data[place] = value
    (tmp_path / "changed").write_bytes(data)
    try:
        header = read_header(tmp_path / "changed")
    except NotGGUFError:
        return
    assert header.bytes_per_token >= 0
