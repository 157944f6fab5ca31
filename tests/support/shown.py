"""What a page shows, run: its files are made, its commands run, and what they print is compared.

A block of shell is run in a shell of its own, in one folder a page. The block right behind it is
what it prints; a block behind a line that ends with `NAME:` is the file of that name. Ports are
the tested server's, and ids stand for ids: the same one shown twice is the same one met twice.
Times may be any, and `…` is whatever is there.
"""

from __future__ import annotations

import os
import re
import sys
from asyncio.subprocess import PIPE, STDOUT, create_subprocess_exec
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.go_modules import go_environment
from tests.support.live import ROOT, Process

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"`([\w.-]+\.(?:mjs|py|go))`[^\n`]*:\n+\Z")
#: ids, and what is another one each time: a time, a number of seconds, a version
_ID = r"\b(?:turn|msg|conv|chatcmpl|req)[_-][0-9a-z]{16,}\b"
_TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z"
_SECONDS = r'(?<="created":)\d+'
_RELEASE = r"(?<=SQLite )[\d.]+"
_VARIES = re.compile(rf"(?P<id>{_ID})|(?P<other>{_TIME}|{_SECONDS}|{_RELEASE})|(?P<rest>…)")
_PYTHON = '#!/bin/sh\nexec "{}" {}"$@"\n'


@dataclass(frozen=True, slots=True)
class Block:
    """`file`: what it is to be called; `follows`: it shows what the block before it prints."""

    kind: str
    text: str
    file: str | None
    follows: bool


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str) -> list[Block]:
    """Return the blocks of a page, in order."""
    found, end = [], 0
    for match in _BLOCK.finditer(page):
        before = page[end : match.start()]
        named = _FILE.search(before)
        found.append(Block(match[1], match[2], named[1] if named else None, not before.strip()))
        end = match.end()
    return found


@dataclass
class Ids:
    """Which id was met where a page shows one."""

    met: dict[str, str] = field(default_factory=dict)

    def matches(self, shown: str, printed: str) -> bool:
        """Say whether this is what is shown, and keep the ids that are met for the first time."""
        pattern, end, new = "", 0, list[str]()
        for varies in _VARIES.finditer(shown):
            pattern += re.escape(shown[end : varies.start()])
            end = varies.end()
            if varies["id"] is None:
                pattern += r"[\s\S]*?" if varies["rest"] else f"(?:{varies['other'] and _OTHER})"
            elif varies[0] in self.met:
                pattern += re.escape(self.met[varies[0]])
            elif varies[0] in new:
                pattern += f"(?P=id{new.index(varies[0])})"
            else:
                pattern += f"(?P<id{len(new)}>{_ID})"
                new.append(varies[0])
        found = re.fullmatch(pattern + re.escape(shown[end:]), printed)
        if found is None:
            return False
        met = self.met | {one: found[f"id{number}"] for number, one in enumerate(new)}
        if len(set(met.values())) < len(met):
            return False  # two that are shown are one
        self.met = met
        return True

    def real(self, text: str) -> str:
        """Return a command with the ids that were met in the place of those shown."""
        return re.sub(_ID, lambda shown: self.met.get(shown[0], shown[0]), text)


_OTHER = rf"{_TIME}|\d+|[\d.]+"


class Ports:
    """The tested server's ports in the place of those that everybody knows, and back."""

    def __init__(self, server: Process) -> None:
        http, grpc = (one.rpartition(":")[2] for one in (server.http, server.grpc))
        websocket = server.websocket.rstrip("/").rpartition(":")[2]
        self.real = {"8000": http, "9000": grpc, "9001": websocket}

    def told(self, text: str) -> str:
        return _ported(text, self.real)

    def shown(self, text: str) -> str:
        return _ported(text, {real: known for known, real in self.real.items()})


def _ported(text: str, ports: dict[str, str]) -> str:
    anywhere = re.compile(rf"(?<=localhost:)({'|'.join(ports)})\b")
    return anywhere.sub(lambda port: ports[port[0]], text)


def tidy(shown: str, kind: str) -> str:
    """Return what is shown without the lines that make JSON easier to read there."""
    return re.sub(r"\n\s*", "", shown) if kind == "json" else shown.rstrip("\n")


class Desk:
    """A folder in which a page's commands are run, as in a checkout that was served from."""

    def __init__(self, folder: Path, server: Process) -> None:
        self.folder = folder
        self.ports = Ports(server)
        self._ids = Ids()
        programs = folder / ".venv" / "bin"
        programs.mkdir(parents=True)
        for name, words in (("python", ""), ("trialogue", "-m server ")):
            (programs / name).write_text(_PYTHON.format(sys.executable, words))
            (programs / name).chmod(0o755)
        for name in ("clients", "proto"):
            (folder / name).symlink_to(ROOT / name)
        real = self.ports.real
        self.env = {
            "PATH": os.pathsep.join((str(programs), os.environ["PATH"])),
            "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "proto"))),
            # Node 22 has a websocket without being asked.
            "NODE_OPTIONS": "--experimental-websocket --no-warnings",
            "TRIALOGUE_HTTP_PORT": real["8000"],
            "TRIALOGUE_GRPC_PORT": real["9000"],
            "TRIALOGUE_WEBSOCKET_PORT": real["9001"],
        }

    def keep(self, file: Block) -> None:
        assert file.file is not None
        (self.folder / file.file).write_text(self.ports.told(file.text))
        if file.kind == "go":
            self.env |= go_environment(self.folder.parent / "go")

    async def run(self, command: str, shown: Block | None) -> None:
        """Run a command, which must succeed and print what is shown."""
        shell = await create_subprocess_exec(
            *("sh", "-e", "-c", self._ids.real(self.ports.told(command))),
            cwd=self.folder,
            env=self.env,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE if "curl" in command else STDOUT,
        )
        output, errors = await shell.communicate(b"")
        printed = self.ports.shown(output.decode()).rstrip("\n")
        assert shell.returncode == 0, f"{command}\n{printed}\n{(errors or b'').decode()}"
        if shown is not None:
            expected, printed = tidy(shown.text, shown.kind), tidy(printed, shown.kind)
            assert self._ids.matches(expected, printed), f"{command}\n{printed}\nis not\n{expected}"
