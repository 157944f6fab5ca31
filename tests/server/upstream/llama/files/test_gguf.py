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


TEXT, LIST, U32, I32 = 8, 9, 4, 5
WORD = struct.pack("<I", TEXT) + text(b"many")
MINUS = struct.pack("<Ii", I32, -4)


def said(path: Path, **values: bytes) -> Path:
    """Write a header that says something of a model of the architecture `a`, and no tensor."""
    told = {"general.architecture": struct.pack("<I", TEXT) + text(b"a")}
    told |= {
        f"a.{name}": struct.pack("<II", U32, 8) for name in ("embedding_length", "block_count")
    }
    told |= {name.replace("__", "."): value for name, value in values.items()}
    pairs = b"".join(text(name.encode()) + value for name, value in told.items())
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, len(told)) + pairs + b"x")
    return path


def listed(kind: int, *values: bytes) -> bytes:
    return struct.pack("<IIQ", LIST, kind, len(values)) + b"".join(values)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("general__file_type", listed(U32, struct.pack("<I", 1))),
        ("split__count", WORD),
        ("split__count", MINUS),
        ("a__context_length", WORD),
        ("a__block_count", struct.pack("<IQ", 10, 1 << 63)),
        ("a__attention__head_count", MINUS),
        ("a__attention__head_count_kv", MINUS),
        ("a__attention__head_count_kv", listed(I32, struct.pack("<i", 4), struct.pack("<i", -9))),
    ],
)
def test_what_has_the_wrong_kind_is_told_by_its_name(
    tmp_path: Path, name: str, value: bytes
) -> None:
    with pytest.raises(NotGGUFError, match=name.replace("__", r"\.")):
        read_header(said(tmp_path / "kinds", **{name: value}))


def test_heads_may_be_told_by_layer(tmp_path: Path) -> None:
    four, two, one = (struct.pack("<I", number) for number in (4, 2, 1))
    heads = {
        "a__block_count": struct.pack("<II", U32, 2),
        "a__attention__head_count": listed(U32, four, four),
        "a__attention__head_count_kv": listed(U32, two, one),
    }
    assert read_header(said(tmp_path / "layers", **heads)).bytes_per_token == (2 + 1) * (2 + 2) * 2


def test_a_long_header_takes_no_more_memory_than_what_is_asked_for(tmp_path: Path) -> None:
    long = struct.pack("<I", TEXT) + text(b"x" * (17 << 20))
    assert read_header(said(tmp_path / "long", tokenizer__json=long)).architecture == "a"
    many = {f"k{number}": struct.pack("<I", TEXT) + text(b"x" * (1 << 20)) for number in range(5)}
    with pytest.raises(NotGGUFError, match="damaged"):
        read_header(said(tmp_path / "many", **many))


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
