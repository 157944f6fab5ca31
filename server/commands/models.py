"""The command models: search, pull, list, show, remove and check models on this machine."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from server.app.local_models import library_of, planned
from server.config.addresses import web_address
from server.config.kinds import sendable
from server.config.settings import Settings
from server.config.settings_files import naming
from server.upstream.llama.engine import NoEngineError, find
from server.upstream.llama.files.gguf import Header, NotGGUFError
from server.upstream.llama.files.hub import HUGGING_FACE, Hub
from server.upstream.llama.files.library import Entry, Library, ModelFileError
from server.upstream.llama.files.pull import Asked, Puller, check
from server.upstream.llama.files.web import Web
from server.upstream.llama.memory import NoMemoryError, Plan

#: lines that tell how far a download is, where they are not on a terminal: one for so many percent
_STEP = 10


def models(settings: Settings, parsed: argparse.Namespace) -> int:
    """Do what is asked of the models of this machine; 1 where that could not be done."""
    library = library_of(settings)
    try:
        match parsed.action:
            case "search":
                return asyncio.run(_search(" ".join(parsed.words), parsed.limit))
            case "pull":
                return asyncio.run(_pull(settings, library, parsed))
            case "list":
                return _list(settings, library)
            case "show":
                return _show(settings, library.entry(parsed.name))
            case "rm":
                freed = library.remove(parsed.name)
                print(f"{parsed.name} is gone, {_size(freed)} are free again")
                return 0
            case _:
                return _check(library, parsed.names)
    except ModelFileError as error:
        print(f"trialogue: {error}", file=sys.stderr)
    except OSError as error:
        print(f"trialogue: {error.filename or library.folder}: {error.strerror}", file=sys.stderr)
    return 1


@asynccontextmanager
async def _hub() -> AsyncIterator[tuple[Hub, Web]]:
    """Yield the hub that the environment names, asked with the key in HF_TOKEN."""
    endpoint = os.environ.get("HF_ENDPOINT") or HUGGING_FACE
    token = os.environ.get("HF_TOKEN")
    with naming("HF_ENDPOINT"):
        web_address(endpoint)
    with naming("HF_TOKEN"):
        web = Web(sendable(token) if token else None, endpoint)
    try:
        yield Hub(web, endpoint), web
    finally:
        await web.close()


async def _search(words: str, limit: int) -> int:
    async with _hub() as (hub, _):
        found = await hub.search(words, limit)
    for hit in found:
        gated = "  (its terms must be taken, and HF_TOKEN set)" if hit.gated else ""
        print(f"{hit.downloads:>12,}  {hit.name}{gated}")
    if not found:
        print(f"nothing is called so: {words}", file=sys.stderr)
    return 0 if found else 1


async def _pull(settings: Settings, library: Library, parsed: argparse.Namespace) -> int:
    asked = Asked(parsed.source, parsed.name, parsed.sha256, parsed.unchecked)
    shown = _Shown()
    async with _hub() as (hub, web):
        try:
            entry, fetched = await Puller(library, hub, web, shown).pull(asked)
        finally:
            shown.end()
    if not fetched:
        print(f"{entry.name} is there already, as it is at its source")
    else:
        print(f"{entry.name}: {_size(entry.size)} in {entry.path}")
    print(f"serve it: trialogue serve --local {entry.name}")
    try:
        find(settings.local_options.engine, settings.llama_server)
    except NoEngineError as error:
        print(f"before that: {error}")
    return 0


def _list(settings: Settings, library: Library) -> int:
    names = library.names()
    for name in names:
        try:
            print(_row(settings, library.entry(name)))
        except ModelFileError as error:
            print(f"{name:30} {'-':>9}  BAD: {error}")
    if not names:
        print(f"no models in {library.folder}; 'trialogue models pull OWNER/NAME' fetches one")
    return 0


def _row(settings: Settings, entry: Entry) -> str:
    try:
        header = entry.header()
    except (NotGGUFError, OSError) as error:
        return f"{entry.name:30} {_size(entry.size):>9}  BAD: {error}"
    licence = (entry.record.licence if entry.record else None) or header.licence or "-"
    fits = "fits" if _plan(settings, entry, header) is not None else "TOO LARGE"
    return (
        f"{entry.name:30} {_size(entry.size):>9}  {header.quant or '-':8} "
        f"{header.window:>9,} tokens  {licence:16} {fits}"
    )


def _show(settings: Settings, entry: Entry) -> int:
    record = entry.record
    try:
        header = entry.header()
    except NotGGUFError as error:
        raise ModelFileError(f"{entry.path}: {error}; pull it again") from None
    plan = _plan(settings, entry, header)
    told = {
        "name": entry.name,
        "file": _file(entry),
        "source": record.source if record else "not recorded",
        "revision": record and record.revision,
        "sha256": record and record.sha256,
        "licence": (record and record.licence) or header.licence,
        "size": f"{entry.size:,} bytes",
        "model": f"{header.name or '-'}, {header.architecture}, {header.parameters:,} parameters",
        "weights": header.quant,
        "trained for": f"{header.window:,} tokens",
        "template": "its own" if header.template else "none: it only completes text",
        "memory": _memory(settings, plan),
    }
    for name, value in told.items():
        print(f"{name:12} {value if value is not None else '-'}")
    return 0


def _file(entry: Entry) -> str:
    link = f" -> {entry.files[0].resolve()}" if entry.path.is_symlink() else ""
    more = f" and {len(entry.files) - 1} more" if len(entry.files) > 1 else ""
    return f"{entry.path}{link}{more}"


def _memory(settings: Settings, plan: Plan | None) -> str:
    if plan is None:
        return f"more than is free; [local] context is {settings.local_options.context:,}"
    return f"{_size(plan.bytes)} with {plan.windows}"


def _plan(settings: Settings, entry: Entry, header: Header) -> Plan | None:
    """Return how a model would be loaded now, were there no other; None where it would not fit."""
    try:
        return planned(settings, entry, header)
    except NoMemoryError:
        return None


def _check(library: Library, names: list[str]) -> int:
    bad = 0
    for name in names or library.names():
        try:
            wrong = check(library.entry(name))
        except ModelFileError as error:
            wrong = str(error)
        bad += wrong is not None
        print(f"{'ok ' if wrong is None else 'BAD'}  {name}{f': {wrong}' if wrong else ''}")
    return 1 if bad else 0


class _Shown:
    """Shows on standard error how far a download is."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._at = -1
        self._began = time.monotonic()
        self._first: int | None = None

    def __call__(self, have: int, size: int | None) -> None:
        self._first = have if self._first is None else self._first
        percent = have * 100 // size if size else 0
        if percent // (1 if self._terminal else _STEP) == self._at:
            return
        self._at = percent // (1 if self._terminal else _STEP)
        speed = (have - self._first) / max(time.monotonic() - self._began, 0.001)
        of = f"{percent:3} % of {_size(size)}" if size else _size(have)
        text = f"{of}, {_size(int(speed))}/s"
        print(
            f"\r{text:60}" if self._terminal else text, end=self._end, file=sys.stderr, flush=True
        )

    @property
    def _end(self) -> str:
        return "" if self._terminal else "\n"

    def end(self) -> None:
        """Leave the line that was written over."""
        if self._terminal and self._at >= 0:
            print(file=sys.stderr)


def _size(size: int) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"
