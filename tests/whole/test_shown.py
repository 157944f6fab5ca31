"""What the pages show is what happens: each command runs, and prints what stands behind it."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import tomllib
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from server.commands.parser import CLIENTS, _parser
from tests.server.core.archive.chatgpt_sample import WHOLE
from tests.support.go_modules import PACKAGED
from tests.support.live import ROOT, Fork
from tests.support.shown import Block, Desk, Ids, blocks, text_of, tidy

#: Pages whose commands are run here, but for those of ELSEWHERE.
RUN = ("README.md", "docs/quickstart.md", "docs/faq.md", "docs/coming_from.md")
#: What has to be there for the programs that are shown.
PROGRAMS = {
    "js": ("node",),
    "go": ("go", "protoc", "protoc-gen-go", "protoc-gen-go-grpc", f"{PACKAGED}/google.golang.org"),
}
#: What other commands begin with, and what tries them.
ELSEWHERE = {
    "./bin/serve": "tests/whole/test_bin.py",
    "./bin/test": "tests/whole/test_bin.py",
    "OPENAI_API_KEY=": "tests/server/app/test_upstreams.py",
    "OPENAI_BASE_URL=http://localhost:11434": "tests/server/app/test_upstreams.py",
    # Eliza writes no code.
    ".venv/bin/trialogue ask -c -x": "tests/clients/test_ask.py",
    "OTEL_EXPORTER_OTLP_ENDPOINT=": "tests/server/app/test_telemetry.py",
    "export TRIALOGUE_DATABASE=postgresql": "tests/whole/test_postgres.py",
    "pip install 'trialogue[": "tests/whole/test_dependencies.py",
    "docker ": "bin/container-check",
    "CHAT_NAME=chat.example docker": "tests/whole/test_deploy.py",
    "kubectl ": "tests/whole/test_deploy.py",
    "systemctl ": "tests/whole/test_deploy.py",
    "journalctl ": "tests/whole/test_deploy.py",
    "install -D ": "tests/whole/test_deploy.py",
    "cp docs/deploy/": "tests/whole/test_deploy.py",
    "python3 -m venv /opt": "tests/whole/test_deploy.py",
    "python -m tests.torture.crash": "tests/torture/test_crash.py",
    "python -m bench.history": "bench/history.py",
    "trialogue backup": "tests/server/commands/test_backup.py",
    "trialogue migrate": "tests/whole/test_migrate.py",
    "trialogue restore": "tests/server/commands/test_backup.py",
    "trialogue doctor": "tests/server/commands/test_doctor.py",
    "trialogue keys": "tests/whole/test_first_key.py",
    "trialogue models": "tests/server/commands/test_models.py",
    "trialogue serve": "tests/whole/test_process.py",
}
_PAGES = sorted(
    str(path.relative_to(ROOT)) for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"))
)


def commands(text: str) -> Iterator[str]:
    """Yield the commands of a block, each on one line and without a comment behind it."""
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        if command := re.sub(r"\s+#.*", "", line).strip():
            yield command


def elsewhere(command: str) -> bool:
    return command.startswith(tuple(ELSEWHERE))


def needed(page: Sequence[Block]) -> None:
    """Skip what cannot run for want of a program; where all must run, it fails."""
    wanted = [one for kind in {block.kind for block in page} for one in PROGRAMS.get(kind, ())]
    missing = [one for one in wanted if shutil.which(one) is None and not Path(one).is_dir()]
    if missing:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"needs {', '.join(missing)}")


def configured(page: list[Block]) -> str:
    """Return the trialogue.toml that a page's exchanges need, by its own words."""
    return "".join(b.text for b in page if b.kind == "toml" and b.text.startswith("# trialogue"))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", RUN)
async def test_a_page_is_run(page: str, tmp_path: Path) -> None:
    shown, ran = blocks(text_of(page)), 0
    needed(shown)
    folder = tmp_path / "server"
    folder.mkdir()
    if toml := configured(shown):
        (folder / "trialogue.toml").write_text(toml)
    async with Fork(folder) as server:
        desk = Desk(tmp_path / "desk", server)
        await desk.run("git init --quiet", None)
        with zipfile.ZipFile(tmp_path / "desk" / "export.zip", "w") as export:
            export.writestr("conversations.json", json.dumps([WHOLE]))
        for block, behind in zip(shown, [*shown[1:], None], strict=True):
            if block.file is not None:
                desk.keep(block)
            here = [c for c in commands(block.text) if block.kind == "sh" and not elsewhere(c)]
            if here:
                await desk.run("\n".join(here), behind if behind and behind.follows else None)
                ran += 1
    assert ran > 2


async def test_the_start_says_what_is_shown(tmp_path: Path) -> None:
    (start,) = [b for b in blocks(text_of("README.md")) if b.text.startswith("Trialogue 0")]
    async with Fork(tmp_path) as server:
        desk = Desk(tmp_path / "desk", server)
        assert Ids().matches(tidy(start.text, ""), desk.ports.shown(server.output).strip())


def told(pages: Sequence[str] = _PAGES) -> list[str]:
    """Return all commands of these pages."""
    all_blocks = (block for page in pages for block in blocks(text_of(page)))
    return [one for block in all_blocks if block.kind == "sh" for one in commands(block.text)]


@pytest.mark.parametrize("page", sorted(set(_PAGES) - set(RUN)))
def test_every_command_is_run_here_or_tried_elsewhere(page: str) -> None:
    assert [command for command in told([page]) if not elsewhere(command)] == []


def test_what_tries_them_is_there_and_needed() -> None:
    assert [place for place in ELSEWHERE.values() if not (ROOT / place).is_file()] == []
    assert [one for one in ELSEWHERE if not any(c.startswith(one) for c in told())] == []


def test_our_own_commands_are_understood() -> None:
    """Those of the terminal's clients are run, since they have flags of their own."""
    tried = 0
    for command in told():
        words = shlex.split(command)
        if words[0] == "trialogue" and words[1] not in CLIENTS:
            for one in command.split(" && "):
                _parser().parse_args(shlex.split(one)[1:])
            tried += 1
    assert tried > 5


def test_every_extra_that_is_to_be_installed_is_there() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = {one for page in _PAGES for one in re.findall(r"'trialogue\[(\w+)\]'", text_of(page))}
    assert named
    assert named <= project["optional-dependencies"].keys()
