"""Which engine is taken, and what is said where there is none."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from server.upstream.llama.engine import NoEngineError, find
from tests.support.live import ROOT


def program(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "llama-server"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_the_program_on_the_path_comes_before_the_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = program(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find("auto", None).program == found
    assert find("llama-server", None).program == found
    assert find("wheel", None).program is None


def test_the_one_that_is_named_comes_before_the_one_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    named = program(tmp_path / "other")
    assert find("auto", named).program == named


def test_without_a_program_the_wheel_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find("auto", None).told.startswith("xllamacpp ")


def test_what_is_missing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoEngineError, match="TRIALOGUE_LLAMA_SERVER names it"):
        find("llama-server", None)
    with pytest.raises(NoEngineError, match="no program that can be run"):
        find("auto", tmp_path / "none")


#: a Python without the extra: its modules cannot be found
WITHOUT = """
import sys
class Without:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        return None if name == "xllamacpp" else self.finder.find_spec(name, path, target)
    def __getattr__(self, name):
        return getattr(self.finder, name)
sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
from server.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def test_without_the_extra_it_is_told_how_to_install_it(tmp_path: Path, tiny_model: Path) -> None:
    env = {"PATH": str(tmp_path), "PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}"}
    env["TRIALOGUE_MODELS"] = str(tiny_model.parent)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, "serve", "--local", "tiny"],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr == (
        "trialogue: TRIALOGUE_LOCAL: local models need llama.cpp's server: "
        "pip install 'trialogue[local]'\n"
    )


def test_nothing_of_the_engine_is_in_the_server_s_process() -> None:
    assert importlib.util.find_spec("xllamacpp") is not None
    words = (
        "import sys, server.app.lifecycle, server.app.local_models, server.commands.models, "
        "server.upstream.llama.local_model; print('xllamacpp' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", words],
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "False\n"
