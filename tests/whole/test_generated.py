"""What is generated and kept is what would be generated now; what is locked is locked."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import grpc_tools  # type: ignore[import-untyped]
import pytest
from grpc_tools import protoc
from packaging.utils import canonicalize_name
from packaging.version import Version
from trialogue.v1 import conversation_pb2 as pb

from server.transports.rest.web_libraries import FILES
from tests.support.live import ROOT

PROTOS = (
    "trialogue/v1/conversation.proto",
    "trialogue/internal/v1/peer.proto",
    "easybackend/chat.proto",
)
LOCKS = (
    "requirements.lock",
    "requirements-dev.lock",
    "requirements-build.lock",
    "requirements-page.lock",
    "requirements-embeddings.lock",
    "requirements-local.lock",
    "requirements-postgres.lock",
)
#: The first versions without holes that are known; an older one must not come back.
FLOORS = {"starlette": "1.0.1", "h11": "0.16", "aiohttp": "3.13.4", "jinja2": "3.1.6"}
#: A requirement with its hashes, its lines joined.
PINNED = re.compile(
    r"(?P<name>[A-Za-z0-9._-]+)(\[[\w,-]+\])?==(?P<version>[\w.!+]+)( ; [^\\]+?)?"
    r"(?P<hashes>( --hash=sha256:[0-9a-f]{64})+)"
)


@pytest.mark.parametrize("proto", PROTOS)
def test_stubs_are_fresh(tmp_path: Path, proto: str) -> None:
    source, included = ROOT / "proto", Path(grpc_tools.__file__).parent / "_proto"
    code = protoc.main(
        [
            "protoc",
            f"-I{source}",
            f"-I{included}",
            *(f"--{kind}_out={tmp_path}" for kind in ("python", "pyi", "grpc_python")),
            proto,
        ]
    )
    assert code == 0
    made = [path.relative_to(tmp_path) for path in tmp_path.rglob("*.py*")]
    assert len(made) == 3
    for path in made:
        assert (source / path).read_bytes() == (tmp_path / path).read_bytes(), path


def test_generated_code_has_a_name_in_every_language() -> None:
    options = pb.DESCRIPTOR.GetOptions()
    named = {field.name: value for field, value in options.ListFields()}
    assert named["go_package"] == "trialogue/v1;trialoguev1"
    assert {"csharp_namespace", "java_package", "php_namespace", "ruby_package"} <= named.keys()
    assert named["java_multiple_files"] is True


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_names_versions_with_their_hashes_and_no_place(name: str) -> None:
    found = [PINNED.fullmatch(line) for line in _requirements(name)]
    assert found
    assert None not in found
    assert "://" not in (ROOT / name).read_text()


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_has_no_version_with_a_known_hole(name: str) -> None:
    old = [
        f"{one}=={version}"
        for one, version in _pins(name)
        if one in FLOORS and Version(version) < Version(FLOORS[one])
    ]
    assert old == []


def test_the_lock_of_the_page_names_versions_with_their_hashes_and_no_place() -> None:
    locked = json.loads((ROOT / "clients/web/package-lock.json").read_text())["packages"]
    del locked[""]
    assert "node_modules/dompurify" in locked
    for one in locked.values():
        assert one["version"]
        assert one["integrity"].startswith("sha512-")
        assert "resolved" not in one


def test_the_wheel_has_what_the_page_loads() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    taken = project["tool"]["hatch"]["build"]["targets"]["wheel"]["artifacts"]
    assert {f"clients/web/node_modules/{path}" for path in FILES.values()} <= set(taken)


def test_what_has_a_floor_is_locked() -> None:
    assert FLOORS.keys() <= dict(_pins("requirements.lock")).keys()


def test_nothing_that_the_server_needs_runs_by_itself() -> None:
    """A `.pth` file is code that runs whenever Python starts, whoever starts it."""
    locked = dict(_pins("requirements.lock"))
    here = {canonicalize_name(one.name): one for one in metadata.distributions()}
    found = [
        f"{name}: {file}"
        for name in here.keys() & locked.keys()
        for file in here[name].files or ()
        if file.suffix == ".pth"
    ]
    assert {"aiohttp", "grpcio", "jinja2"} <= here.keys() & locked.keys()
    assert found == []


def test_the_server_runs_on_what_it_is_tested_with() -> None:
    tested = set(_pins("requirements-dev.lock"))
    assert set(_pins("requirements.lock")) <= tested
    assert set(_pins("requirements-build.lock")) <= tested


def test_what_the_project_needs_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {re.split(r"[^\w.-]", one)[0] for one in project["dependencies"]}
    assert needed <= {name for name, _ in _pins("requirements.lock")}


def _pins(name: str) -> Iterator[tuple[str, str]]:
    for line in _requirements(name):
        pinned = PINNED.fullmatch(line)
        assert pinned is not None, line
        yield pinned["name"], pinned["version"]


def _requirements(name: str) -> list[str]:
    """Return a lock file's requirements, each on one line."""
    text = (ROOT / name).read_text()
    joined = re.sub(r"\s*\\\n\s*", " ", text)
    return [line for line in joined.splitlines() if line and not line.startswith("#")]
