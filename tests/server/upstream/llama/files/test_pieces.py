"""Models in several GGUF files: pulled, linked, put there by hand, checked and removed."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from server.upstream.llama.files.library import Library, ModelFileError
from server.upstream.llama.files.pieces import Piece, files_of, header_of, piece_of
from server.upstream.llama.files.pull import check
from tests.server.upstream.llama.files.pulling import left, pull
from tests.support.fake_hub import REPO, FakeHub
from tests.support.tiny_gguf import tiny_gguf, tiny_pieces

SIZE = 470_000


@pytest.fixture(params=[False, True], ids=["tensors-in-all", "none-in-the-first"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> list[Path]:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    return tiny_pieces(folder, first_small=request.param)


@pytest.fixture
def pieces(hub: FakeHub, files: list[Path]) -> list[str]:
    """Have the hub serve these files, in a folder; return their names."""
    hub.pieces = {f"Q8_0/{one.name}": one.read_bytes() for one in files}
    return [one.name for one in files]


def whole(path: Path) -> bytes:
    return b"".join(one.read_bytes() for one in files_of(path))


async def test_a_model_in_several_files_is_pulled_as_one(
    hub: FakeHub, library: Library, pieces: list[str]
) -> None:
    entry, fetched = await pull(hub, library, f"{REPO}:Q8_0/{pieces[0]}")
    assert fetched
    assert library.names() == [entry.name] == ["tiny"]
    assert [one.name for one in entry.files] == pieces
    assert whole(entry.path) == b"".join(hub.pieces.values())
    assert entry.size == sum(map(len, hub.pieces.values()))
    assert entry.record is not None
    assert len(entry.record.hashes) == len(pieces)
    assert entry.header().parameters == 115_520
    assert check(entry) is None
    hub.asked.clear()
    assert (await pull(hub, library, f"{REPO}:Q8_0/{pieces[1]}"))[1] is False
    assert hub.ranges_asked == []


async def test_a_folder_that_is_moved_has_its_models_still(
    hub: FakeHub, library: Library, pieces: list[str], tmp_path: Path
) -> None:
    await pull(hub, library, f"{REPO}:Q8_0/{pieces[0]}")
    moved = Library(library.folder.rename(tmp_path / "moved"))
    assert check(moved.entry("tiny")) is None


async def test_what_came_before_a_cut_is_not_fetched_again(
    hub: FakeHub, library: Library, pieces: list[str]
) -> None:
    good = dict(hub.pieces)
    last = f"Q8_0/{pieces[-1]}"
    hub.pieces = {**good, last: good[last][:-1] + b"x"}
    hub.siblings = [_listed(name, of) for name, of in good.items()]
    with pytest.raises(ModelFileError, match="thrown away"):
        await pull(hub, library, f"{REPO}:Q8_0/{pieces[0]}")
    assert library.names() == []
    hub.pieces = good
    hub.asked.clear()
    entry, _ = await pull(hub, library, f"{REPO}:Q8_0/{pieces[0]}")
    assert len(hub.ranges_asked) == 1
    assert check(entry) is None


def _listed(name: str, data: bytes) -> dict[str, object]:
    lfs = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    return {"rfilename": name, "size": len(data), "lfs": lfs}


async def test_each_file_is_gone_on_with(hub: FakeHub, library: Library, pieces: list[str]) -> None:
    hub.cut_after = 60_000
    entry, _ = await pull(hub, library, f"{REPO}:Q8_0/{pieces[0]}")
    assert check(entry) is None
    assert len(hub.ranges_asked) > len(pieces)


async def test_a_new_revision_takes_the_place_of_the_old_and_leaves_nothing(
    hub: FakeHub, library: Library, pieces: list[str]
) -> None:
    old, _ = await pull(hub, library, f"{REPO}:Q8_0/{pieces[0]}")
    name = f"Q8_0/{pieces[-1]}"
    data = hub.pieces[name]
    hub.pieces = {**hub.pieces, name: data[:-1] + bytes((data[-1] ^ 1,))}
    new, fetched = await pull(hub, library, f"{REPO}:Q8_0/{pieces[0]}")
    assert fetched
    assert check(new) is None
    assert not old.files[0].exists()
    assert len(left(library)) == 3  # link, record, folder
    hub.pieces = {}
    library.remove("tiny")
    assert left(library) == []


async def test_a_model_in_one_file_takes_the_place_of_one_in_several(
    hub: FakeHub, library: Library, pieces: list[str]
) -> None:
    await pull(hub, library, f"{REPO}:Q8_0/{pieces[0]}", name="one")
    freed = library.remove("one")
    assert freed >= SIZE // 2
    hub.pieces = {}
    entry, _ = await pull(hub, library, name="one")
    assert not entry.path.is_symlink()
    assert left(library) == ["one.gguf", "one.json"]


async def test_pieces_in_another_order_than_they_are_called_are_refused(
    hub: FakeHub, library: Library, pieces: list[str]
) -> None:
    first, second, *rest = hub.pieces.values()
    hub.pieces = dict(zip(hub.pieces, (second, first, *rest), strict=True))
    with pytest.raises(ModelFileError, match="it is piece 2 of"):
        await pull(hub, library, f"{REPO}:Q8_0/{pieces[0]}")
    assert library.names() == []


async def test_a_damaged_or_missing_file_is_told(
    hub: FakeHub, library: Library, pieces: list[str]
) -> None:
    entry, _ = await pull(hub, library, f"{REPO}:Q8_0/{pieces[0]}")
    second = entry.files[1]
    data = bytearray(second.read_bytes())
    data[-1] ^= 1
    second.write_bytes(data)
    assert "its sha256 is another" in str(check(entry))
    second.write_bytes(data[:-9])
    assert "bytes, and not" in str(check(library.entry("tiny")))
    second.unlink()
    with pytest.raises(ModelFileError, match=second.name):
        library.entry("tiny")


async def test_files_of_this_machine_are_linked(
    hub: FakeHub, library: Library, files: list[Path]
) -> None:
    entry, _ = await pull(hub, library, str(files[0]))
    assert (entry.name, list(entry.files)) == ("tiny", files)
    assert check(entry) is None
    library.remove("tiny")
    assert all(one.exists() for one in files)
    files[-1].unlink()
    with pytest.raises(OSError, match="No such file"):
        await pull(hub, library, str(files[0]))


async def test_a_piece_that_is_not_the_first_is_no_model(
    hub: FakeHub, library: Library, files: list[Path]
) -> None:
    with pytest.raises(ModelFileError, match="piece 2 of"):
        await pull(hub, library, str(files[1]))


def test_what_is_put_there_by_hand_is_one_model(library: Library, files: list[Path]) -> None:
    shutil.copytree(files[0].parent, library.folder)
    (name,) = library.names()
    assert name == files[0].stem
    entry = library.entry(name)
    assert entry.header().parameters == 115_520
    library.remove(name)
    assert left(library) == []


async def test_what_lies_in_the_folder_is_recorded_and_stays(
    hub: FakeHub, library: Library
) -> None:
    library.folder.mkdir()
    file = tiny_gguf(library.folder / "own.gguf")
    entry, _ = await pull(hub, library, str(file))
    assert not entry.path.is_symlink()
    assert check(entry) is None


def test_models_of_names_alike_keep_their_files(library: Library) -> None:
    library.folder.mkdir()
    other = library.pieces("a.b", ["1"])
    other.mkdir()
    library.pieces("a", ["1"]).mkdir()
    library.remove("a")
    assert other.exists()


@pytest.mark.parametrize(
    ("name", "piece"),
    [
        ("a-00001-of-00002.gguf", Piece("a", 1, 2)),
        ("a-Q4-00012-of-00012.GGUF", Piece("a-Q4", 12, 12)),
        ("a-00001-of-00001.gguf", None),
        ("a-00000-of-00002.gguf", None),
        ("a-00003-of-00002.gguf", None),
        ("-00001-of-00002.gguf", None),
        ("a-1-of-2.gguf", None),
        ("a.gguf", None),
    ],
)
def test_what_a_name_says(name: str, piece: Piece | None) -> None:
    assert piece_of(name) == piece


def test_the_parameters_of_all_files_count(files: list[Path], tmp_path: Path) -> None:
    whole = tiny_gguf(tmp_path / "whole.gguf")
    assert header_of(files).parameters == header_of([whole]).parameters
