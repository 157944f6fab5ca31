"""Starts of the server that fail, one after another in one interpreter."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from tests.support.live import ROOT

_STARTS = """
import json, sys
from server.__main__ import main
for words in json.loads(sys.argv[1]):
    try:
        code = main(["serve", *words])
    except SystemExit as end:
        code = end.code
    print(json.dumps(code), flush=True)
    print("--", file=sys.stderr, flush=True)
"""


async def started(folder: Path, starts: list[list[str]]) -> tuple[list[Any], list[str]]:
    """Return the exit codes of starts that fail, and what each said."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _STARTS, json.dumps(starts)),
        cwd=folder,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "proto"))),
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    codes = [json.loads(line) for line in output.splitlines()]
    return codes, errors.decode().split("--\n")[:-1]
