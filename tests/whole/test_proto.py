"""The contract of gRPC keeps buf's rules, and what was promised once: `promised` beside this file.

A new field or call is added there too, when it is released.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.live import ROOT

PROTO = ROOT / "proto"
PROMISED = Path(__file__).parent / "promised"
CONTRACT = "trialogue/v1/conversation.proto"


def buf(*words: str | Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("buf")
    return subprocess.run([program, *words], capture_output=True, text=True, check=False)


def changed(folder: Path, old: str, new: str) -> Path:
    """Return a copy of the protos, in which this is said otherwise."""
    copy = Path(shutil.copytree(PROTO, folder / "proto"))
    text = (copy / CONTRACT).read_text()
    assert old in text
    (copy / CONTRACT).write_text(text.replace(old, new))
    return copy


def test_the_protos_keep_the_rules() -> None:
    assert buf("lint", PROTO).stdout == ""


def test_a_call_without_a_comment_is_found(tmp_path: Path) -> None:
    bare = changed(tmp_path, "  // Returns one branch, oldest first.\n", "")
    assert "ListMessages" in buf("lint", bare).stdout


def test_what_was_promised_is_there() -> None:
    kept = buf("breaking", PROTO, "--against", PROMISED)
    assert (kept.returncode, kept.stdout, kept.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("optional string head_id = 9;", "optional string head_id = 19;"),
        ("int64 message_count = 8;", "string message_count = 8;"),
        ("  rpc GetTurn(GetTurnRequest) returns (Turn);\n", ""),
        ("trialogue/v1;trialoguev1", "elsewhere/v1;trialoguev1"),
    ],
)
def test_a_promise_that_is_broken_is_found(tmp_path: Path, old: str, new: str) -> None:
    assert buf("breaking", changed(tmp_path, old, new), "--against", PROMISED).returncode == 100
