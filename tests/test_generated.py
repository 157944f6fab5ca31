"""What is generated is fresh, and what is locked is locked."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.live import ROOT

PROTOS = ("trialogue/v1/conversation", "easybackend/chat")
LOCKS = ("requirements.lock", "requirements-build.lock", "requirements-dev.lock")


@pytest.mark.parametrize("proto", PROTOS)
def test_stubs_are_what_the_proto_says(tmp_path: Path, proto: str) -> None:
    words = ["-I", "proto", f"--python_out={tmp_path}", f"--pyi_out={tmp_path}"]
    words += [f"--grpc_python_out={tmp_path}", f"{proto}.proto"]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *words], cwd=ROOT, check=True)
    for ending in ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py"):
        fresh = (tmp_path / f"{proto}{ending}").read_text()
        assert fresh == (ROOT / "proto" / f"{proto}{ending}").read_text()


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_has_hashes_and_no_address(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert "://" not in text
    assert "--index-url" not in text
    for package in re.split(r"\n(?=\S)", text.strip()):
        assert re.search(r"==\S+", package)
        assert "--hash=sha256:" in package


def test_what_runs_is_locked_as_what_is_tested() -> None:
    def versions(lock: str) -> set[str]:
        return set(re.findall(r"^([a-z0-9-]+==[^\s;]+)", (ROOT / lock).read_text(), re.MULTILINE))

    assert versions("requirements.lock") <= versions("requirements-dev.lock")
    assert versions("requirements-build.lock") <= versions("requirements-dev.lock")
