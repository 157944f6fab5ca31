"""The scripts that people run first: their help, and what they say while they install."""

from __future__ import annotations

import os
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.support.live import ROOT

#: stands for uv: it says what it was told, as the real one says what it does
UV = '#!/bin/sh\necho "uv $*"\n'


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """A checkout in which nothing is installed."""
    shutil.copytree(ROOT / "bin", tmp_path / "bin")
    return tmp_path


def run(fresh: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    given = {"PATH": os.environ["PATH"], **env}
    return subprocess.run(words, cwd=fresh, env=given, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("script", ["bin/test", "bin/environment"])
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_is_its_own_and_installs_nothing(fresh: Path, script: str, flag: str) -> None:
    done = run(fresh, script, flag)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: {script} ")
    assert not (fresh / ".venv").exists()


@pytest.mark.parametrize("words", [(), ("--quick",), ("no.lock",)])
def test_what_is_no_lock_file_is_not_installed(fresh: Path, words: tuple[str, ...]) -> None:
    done = run(fresh, "bin/environment", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: bin/environment LOCK")
    assert not (fresh / ".venv").exists()


def test_the_first_time_says_what_is_done(fresh: Path) -> None:
    for name, text in {
        "pyproject.toml": "",
        "requirements.lock": "one==1 \\\n    --hash=sha256:0\ntwo==2 \\\n    --hash=sha256:0\n",
    }.items():
        (fresh / name).write_text(text)
    for program, text in {".venv/bin/python": "#!/bin/sh\n", "path/uv": UV}.items():
        (fresh / program).parent.mkdir(parents=True)
        (fresh / program).write_text(text)
        (fresh / program).chmod(0o755)
    path = os.pathsep.join((str(fresh / "path"), os.environ["PATH"]))
    done = run(fresh, "bin/environment", "requirements.lock", PATH=path)
    assert (done.returncode, done.stdout) == (0, "")
    assert "Installing the packages of requirements.lock" in done.stderr
    installs = [line for line in done.stderr.splitlines() if line.startswith("uv pip install")]
    assert len(installs) == 2  # what the installer says of its progress is shown
    assert not any("quiet" in line for line in installs)


def test_uv_run_installs_no_tools_of_development() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["tool"]["uv"]["default-groups"] == []
