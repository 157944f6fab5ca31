"""Pulling models: from a hub that cuts, lies and changes, from an address, from a file."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import os
import resource
from pathlib import Path

import pytest

from server.upstream.llama.files.hub import Hub, repo_of
from server.upstream.llama.files.library import Library, ModelFileError
from server.upstream.llama.files.pull import Asked, Puller, check
from server.upstream.llama.files.web import Web, _next
from tests.server.upstream.llama.files.pulling import left, pull
from tests.support.fake_hub import COMMIT, FILE, REPO, FakeHub, fake_hub
from tests.support.tiny_gguf import tiny_gguf

NAME = FILE.removesuffix(".gguf")


async def test_a_model_is_pulled_with_where_it_came_from(
    hub: FakeHub, library: Library, data: bytes
) -> None:
    entry, fetched = await pull(hub, library)
    assert fetched
    assert entry.path.read_bytes() == data
    assert entry.record is not None
    assert entry.record.source == f"hf:{REPO}/{FILE}"
    assert (entry.record.revision, entry.record.licence) == (COMMIT, "apache-2.0")
    assert entry.record.sha256 == hashlib.sha256(data).hexdigest()
    assert check(entry) is None
    assert left(library) == [f"{NAME}.gguf", f"{NAME}.json"]
    assert library.names() == [NAME]


async def test_what_is_there_is_not_fetched_again(hub: FakeHub, library: Library) -> None:
    await pull(hub, library)
    _, fetched = await pull(hub, library)
    assert not fetched
    assert hub.ranges_asked == [None]


async def test_a_cut_is_gone_on_from_where_it_was(
    hub: FakeHub, library: Library, data: bytes
) -> None:
    hub.cut_after = 200_000
    entry, _ = await pull(hub, library)
    assert entry.path.read_bytes() == data
    first, *rest = hub.ranges_asked
    assert first is None
    assert rest
    assert all(one is not None and one != "bytes=0-" for one in rest)


async def test_another_process_goes_on_where_one_was_ended(
    hub: FakeHub, library: Library, data: bytes
) -> None:
    hub.cut_after = 0
    with pytest.raises(ModelFileError, match="what has come is kept"):
        await pull(hub, library)
    part = library.part(NAME)
    part.write_bytes(data[:1000])  # as a process leaves it that is killed
    hub.cut_after = None
    hub.asked.clear()
    entry, _ = await pull(hub, library)
    assert hub.ranges_asked == ["bytes=1000-"]
    assert entry.path.read_bytes() == data


async def test_a_part_of_another_file_is_not_gone_on_with(
    hub: FakeHub, library: Library, data: bytes
) -> None:
    library.folder.mkdir()
    part = library.part(NAME)
    part.write_bytes(b"x" * 1000)
    about = {"address": "http://other/file", "sha256": hub.sha256, "etag": None, "size": 9}
    part.with_suffix(".part.json").write_text(json.dumps(about))
    entry, _ = await pull(hub, library)
    assert hub.ranges_asked == [None]
    assert entry.path.read_bytes() == data


@pytest.mark.parametrize("how", ["changed", "no ranges", "416"])
async def test_a_part_that_cannot_be_gone_on_with_is_begun_anew(
    hub: FakeHub, library: Library, data: bytes, how: str
) -> None:
    hub.cut_after = 0
    with pytest.raises(ModelFileError):
        await pull(hub, library)
    library.part(NAME).write_bytes(b"x" * 1000)
    hub.cut_after = None
    hub.etag = '"two"' if how == "changed" else hub.etag
    hub.ranges = how != "no ranges"
    hub.refuses_ranges = how == "416"
    entry, _ = await pull(hub, library)
    assert entry.path.read_bytes() == data


async def test_a_wrong_hash_is_thrown_away_and_what_was_there_stays(
    hub: FakeHub, library: Library, data: bytes
) -> None:
    await pull(hub, library)
    before = library.entry(NAME)
    hub.commit, hub.sha256 = "d" * 40, "0" * 64
    with pytest.raises(ModelFileError, match=r"sha256 .* thrown away"):
        await pull(hub, library)
    assert left(library) == [f"{NAME}.gguf", f"{NAME}.json"]
    assert library.entry(NAME) == before
    assert check(before) is None


async def test_a_new_revision_takes_the_place_of_the_old(
    hub: FakeHub, library: Library, tmp_path: Path
) -> None:
    await pull(hub, library)
    hub.data = tiny_gguf(tmp_path / "new.gguf", seed=8).read_bytes()
    hub.commit, hub.sha256 = "d" * 40, hashlib.sha256(hub.data).hexdigest()
    entry, fetched = await pull(hub, library)
    assert fetched
    assert entry.path.read_bytes() == hub.data
    assert entry.record is not None
    assert entry.record.revision == "d" * 40
    assert check(entry) is None


async def test_a_size_that_changed_at_its_source_is_told(hub: FakeHub, library: Library) -> None:
    hub.size = len(hub.data) + 1
    with pytest.raises(ModelFileError, match="changed at its source"):
        await pull(hub, library)
    assert left(library) == []


async def test_what_is_no_model_is_not_kept(hub: FakeHub, library: Library) -> None:
    hub.data = b"PK\x03\x04" * 1000
    hub.sha256 = hashlib.sha256(hub.data).hexdigest()
    with pytest.raises(ModelFileError, match="no GGUF file"):
        await pull(hub, library)
    assert left(library) == []


async def test_the_token_goes_to_the_hub_alone(hub: FakeHub, library: Library, data: bytes) -> None:
    async with fake_hub(data) as other:
        hub.elsewhere = f"{other.address}/file"
        await pull(hub, library, token="hf_secret")
        assert set(hub.tokens) == {"Bearer hf_secret"}
        assert other.tokens == [None]


async def test_a_redirect_in_circles_ends(hub: FakeHub, library: Library) -> None:
    hub.elsewhere = f"{hub.address}/{REPO}/resolve/{COMMIT}/{FILE}"
    with pytest.raises(ModelFileError, match="in circles"):
        await pull(hub, library)


@pytest.mark.parametrize(
    ("there", "told"),
    [
        ("file:///etc/passwd", "redirects to nowhere"),
        ("https://[x", "redirects to nowhere"),
        ("https://localhost:99999/x", "redirects to nowhere"),
        ("https://a b/", "redirects to nowhere"),
        ("http://127.example.invalid/x", "without TLS"),
        ("http://10.0.0.1/x", "without TLS"),
    ],
)
async def test_a_redirect_that_cannot_be_followed_is_told(
    hub: FakeHub, library: Library, there: str, told: str
) -> None:
    hub.elsewhere = there
    with pytest.raises(ModelFileError, match=told):
        await pull(hub, library)


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "[::1]", "10.0.0.1", "localhost", "nas.local"])
def test_a_hub_of_the_internet_leads_nowhere_near(host: str) -> None:
    with pytest.raises(ModelFileError, match=r"^hub\.example redirects into this network$"):
        _next("https://hub.example/x", f"https://{host}/x")
    assert _next("https://192.168.1.5/x", f"https://{host}/x") == f"https://{host}/x"
    assert _next("https://hub.example/x", "https://cdn.example/y") == "https://cdn.example/y"


@pytest.mark.parametrize("about", ["[" * 100_000, '{"size": "9"}', '{"etag": 5}'])
async def test_what_is_kept_beside_a_part_may_be_damaged(
    hub: FakeHub, library: Library, data: bytes, about: str
) -> None:
    library.folder.mkdir()
    part = library.part(NAME)
    part.write_bytes(data[:1000])
    if about.startswith("{"):
        address = f"{hub.address}/{REPO}/resolve/{COMMIT}/{FILE}"
        begun = {"address": address, "sha256": hub.sha256, "size": None, "etag": None}
        about = json.dumps({**begun, **json.loads(about)})
    part.with_suffix(".part.json").write_text(about)
    entry, _ = await pull(hub, library)
    assert entry.path.read_bytes() == data


async def test_a_disk_without_room_is_told_before_anything_comes(
    hub: FakeHub, library: Library
) -> None:
    hub.size = 1 << 60
    with pytest.raises(ModelFileError, match=r"are to come, and .* are free"):
        await pull(hub, library)
    assert hub.ranges_asked == []


async def test_a_disk_that_fills_up_keeps_what_has_come(
    hub: FakeHub, library: Library, data: bytes
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(ModelFileError, match=os.strerror(errno.EFBIG)):
            await pull(hub, library)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert library.names() == []
    assert library.part(NAME).stat().st_size == 100_000
    entry, _ = await pull(hub, library)
    assert hub.ranges_asked == [None, "bytes=100000-"]
    assert entry.path.read_bytes() == data


async def test_two_do_not_pull_one_model_at_once(hub: FakeHub, library: Library) -> None:
    with library.locked(NAME), pytest.raises(ModelFileError, match="another process is at it"):
        await pull(hub, library)
    await pull(hub, library)


async def test_a_name_that_another_model_has_is_not_taken(hub: FakeHub, library: Library) -> None:
    await pull(hub, library, name="mine")
    hub.commit, hub.sha256 = "d" * 40, "0" * 64
    with pytest.raises(ModelFileError, match="--as"):
        await pull(hub, library, f"{hub.address}/file", name="mine", sha256="1" * 64)
    assert check(library.entry("mine")) is None


async def test_an_address_needs_its_hash(hub: FakeHub, library: Library, data: bytes) -> None:
    address = f"{hub.address}/file"
    with pytest.raises(ModelFileError, match="--sha256"):
        await pull(hub, library, address, name="a")
    with pytest.raises(ModelFileError, match="64 digits"):
        await pull(hub, library, address, name="a", sha256="abc")
    entry, _ = await pull(hub, library, address, name="a", sha256=hub.sha256)
    assert entry.path.read_bytes() == data
    entry, _ = await pull(hub, library, f"{address}?key=secret", name="b", unchecked=True)
    assert entry.record is not None
    assert entry.record.source == address  # what stands behind ? may be a secret
    assert entry.record.sha256 == hub.sha256


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("http://example.org/m.gguf", "https"),
        ("http://127.example.org/m.gguf", "https"),
        ("https://me:pw@example.org/m.gguf", "password"),
        ("nothing", "no OWNER/NAME"),
        ("../x/y", "no OWNER/NAME"),
        ("./x/y.gguf", "no OWNER/NAME"),
    ],
)
async def test_a_source_that_is_none_is_told(
    hub: FakeHub, library: Library, source: str, told: str
) -> None:
    with pytest.raises(ModelFileError, match=told):
        await pull(hub, library, source, sha256="0" * 64)
    assert hub.asked == []


async def test_a_file_of_this_machine_is_linked(
    hub: FakeHub, library: Library, tmp_path: Path
) -> None:
    file = tiny_gguf(tmp_path / "own.gguf")
    entry, _ = await pull(hub, library, str(file))
    assert entry.path.is_symlink()
    assert entry.path.resolve() == file
    assert check(entry) is None
    library.remove("own")
    assert file.exists()
    assert library.names() == []
    assert hub.asked == []


@pytest.mark.parametrize(
    ("files", "source", "chosen"),
    [
        (("a-Q8_0.gguf", "a-Q4_K_M.gguf"), REPO, "a-Q4_K_M"),
        (("a-Q8_0.gguf", "a-Q4_K_M.gguf"), f"{REPO}:q8_0", "a-Q8_0"),
        (("a.gguf", "mmproj-a.gguf"), REPO, "a"),
        (("sub/b.Q4_0.gguf",), f"{REPO}:Q4_0@main", "b.Q4_0"),
    ],
)
async def test_one_file_of_a_repository_is_chosen(
    hub: FakeHub, files: tuple[str, ...], source: str, chosen: str
) -> None:
    hub.files = files
    repo = repo_of(source)
    assert repo is not None
    web = Web()
    try:
        (wanted,) = await Hub(web, hub.address).wanted(repo)
    finally:
        await web.close()
    assert wanted.file_name == f"{chosen}.gguf"


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (("README.md",), "no GGUF file"),
        (("a-Q4_K_M-00001-of-00002.gguf", "b-Q4_K_M-00002-of-00002.gguf"), "lacks a-Q4_K_M-00002"),
        (("a-Q4_K_M-00001-of-99999.gguf",), "lacks a piece"),
        (("x.gguf", "y.gguf"), "say which"),
        (("../../x.gguf",), "no GGUF file"),
        (("\x1b[2Jx.gguf", "y\n.gguf"), "no GGUF file"),
    ],
)
async def test_a_repository_without_the_one_file_is_told(
    hub: FakeHub, library: Library, files: tuple[str, ...], told: str
) -> None:
    hub.files = files
    with pytest.raises(ModelFileError, match=told):
        await pull(hub, library)


async def test_a_search_shows_what_can_be_pulled(hub: FakeHub) -> None:
    web = Web()
    try:
        assert [one.name for one in await Hub(web, hub.address).search("tiny", 5)] == [REPO]
    finally:
        await web.close()


async def test_offline_is_told_in_one_line(library: Library) -> None:
    web = Web()
    try:
        with pytest.raises(ModelFileError, match="are you offline"):
            await Hub(web, "http://127.0.0.1:9").search("tiny", 5)
    finally:
        await web.close()


async def test_dying_while_a_model_is_installed_leaves_one_that_the_next_pull_records(
    hub: FakeHub, library: Library
) -> None:
    entry, _ = await pull(hub, library)
    entry.path.with_suffix(".json").unlink()  # between the file's rename and its record
    assert "pull it again" in str(check(library.entry(NAME)))
    entry, fetched = await pull(hub, library)
    assert not fetched
    assert check(entry) is None


def test_a_damaged_file_is_told(library: Library, tmp_path: Path) -> None:
    file = tiny_gguf(tmp_path / "a.gguf")
    web = Web()
    asyncio.run(Puller(library, Hub(web), web, lambda *_: None).pull(Asked(str(file), "a")))
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert "sha256" in str(check(library.entry("a")))
    file.write_bytes(data[:-1])
    assert "bytes" in str(check(library.entry("a")))
